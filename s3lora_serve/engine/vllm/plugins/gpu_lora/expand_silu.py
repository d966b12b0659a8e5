"""silu(gate) · up with both slices' B s added on the way: LoRA of a gate and up projection without a launch.

The activation reads every output of the projection anyway. cuBLAS has multiplied x by the augmented weight,
so y [M, 2·HALF + 2·S·R] holds gate, up, s of gate and s of up, and

    out = silu(gate + B_gate s_gate) · (up + B_up s_up)

Both sums are rounded to y's type first, as they would be had they been written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from s3lora_serve.engine.vllm.plugins.gpu_lora.lora_tile import delta, slots_a_product, used_slots

if TYPE_CHECKING:
    from torch import Tensor

    from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import ExpandShape


@triton.jit(do_not_specialize=["M"])
def expand_silu_kernel(
    y,  # [M, 2·HALF + 2·S·R] bf16, rows stride_y apart
    out,  # [M, HALF] bf16, contiguous
    b,  # [S, R, 2·HALF] bf16
    state,  # [≥ 2] int32: the live masks of gate and up
    slot,  # [≥ M] int32
    M, HALF, stride_y,
    S: tl.constexpr, R: tl.constexpr, SLOTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, LORA: tl.constexpr,
):  # fmt: skip
    rm = tl.program_id(1) * BM + tl.arange(0, BM)
    rn = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = rm < M
    rows = y + rm.to(tl.int64) * stride_y
    at = rows[:, None] + rn[None, :]
    gate = tl.load(at, mask=inside[:, None], other=0.0).to(tl.float32)
    up = tl.load(at + HALF, mask=inside[:, None], other=0.0).to(tl.float32)
    if LORA:
        N = 2 * HALF
        token_slot = tl.load(slot + rm, mask=inside, other=-1)
        of_gate = used_slots(token_slot, state, S)
        of_up = used_slots(token_slot, state + 1, S)
        if of_gate != 0:
            gate += delta(rows + N, b, token_slot, of_gate, rn, N, S, R, SLOTS, BM, BN, 1, 1, "")
        if of_up != 0:
            up += delta(rows + N + S * R, b + HALF, token_slot, of_up, rn, N, S, R, SLOTS, BM, BN, 1, 1, "")
        gate = gate.to(y.dtype.element_ty).to(tl.float32)
        up = up.to(y.dtype.element_ty).to(tl.float32)
    value = gate / (1.0 + tl.exp(-gate)) * up
    to = out + rm.to(tl.int64)[:, None] * HALF + rn[None, :]
    tl.store(to, value.to(out.dtype.element_ty), mask=inside[:, None])


def expand_silu(
    y: Tensor, b_all: Tensor, state: Tensor, slot: Tensor, lora: bool, shape: ExpandShape
) -> Tensor:
    """The activation [M, HALF] of an augmented gate and up projection; without ``lora``, of the base
    alone."""
    m, (slots, rank, n) = y.shape[0], b_all.shape
    half = n // 2
    out = torch.empty((m, half), dtype=y.dtype, device=y.device)
    expand_silu_kernel[(half // shape.bn, triton.cdiv(m, shape.bm))](
        y, out, b_all, state, slot, m, half, y.stride(0) if m > 1 else y.shape[1],
        slots, rank, slots_a_product(slots, rank), shape.bm, shape.bn, lora, num_warps=shape.warps,
    )  # fmt: skip
    return out
