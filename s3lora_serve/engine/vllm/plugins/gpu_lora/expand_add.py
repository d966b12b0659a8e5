"""B s added in place, for more tokens than the one launch takes: y[:, :N] += B s.

cuBLAS has multiplied x by the augmented weight, W with every slot's A below it, so y [M, N + PARTS·S·R] holds
W x in its first N columns and s in its last. A tile that uses no slot returns after two loads of a few bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

from s3lora_serve.engine.vllm.plugins.gpu_lora.lora_tile import delta, slots_a_product, used_slots

if TYPE_CHECKING:
    from torch import Tensor

    from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import ExpandShape


@triton.jit(do_not_specialize=["M"])
def expand_add_kernel(
    y,  # [M, N + PARTS·S·R] bf16, rows stride_y apart; read, and its first N columns written
    b,  # [S, R, N] bf16
    state,  # [≥ PARTS] int32: the live masks
    slot,  # [≥ M] int32
    M, N,
    e1, e2,  # where the second and third slice begin; N if there is none
    stride_y,
    S: tl.constexpr, R: tl.constexpr, SLOTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    n0 = tl.program_id(0) * BN
    part = (n0 >= e1).to(tl.int32) + (n0 >= e2).to(tl.int32)
    rm = tl.program_id(1) * BM + tl.arange(0, BM)
    rn = n0 + tl.arange(0, BN)
    inside = rm < M
    # What the layers before the product have not written: safe to read ahead of it.
    token_slot = tl.load(slot + rm, mask=inside, other=-1)
    used = used_slots(token_slot, state + part, S)
    if PDL:  # launched while the product runs (programmatic dependent launch): here it must have ended
        tl.extra.cuda.gdc_wait()
    if used != 0:
        rows = y + rm.to(tl.int64) * stride_y
        at = rows[:, None] + rn[None, :]
        base = tl.load(at, mask=inside[:, None], other=0.0).to(tl.float32)
        add = delta(rows + N + part * S * R, b, token_slot, used, rn, N, S, R, SLOTS, BM, BN, 1, 1, "")
        tl.store(at, (base + add).to(y.dtype.element_ty), mask=inside[:, None])


def expand_add(
    y: Tensor, b_all: Tensor, state: Tensor, slot: Tensor, ends: tuple[int, int], shape: ExpandShape
) -> None:
    """Add each token's B s to y[:, :N]."""
    m, (slots, rank, n) = y.shape[0], b_all.shape
    early: dict[str, Any] = {"launch_pdl": True} if shape.pdl and y.is_cuda else {}
    expand_add_kernel[(n // shape.bn, triton.cdiv(m, shape.bm))](
        y, b_all, state, slot, m, n, *ends, y.stride(0) if m > 1 else y.shape[1],
        slots, rank, slots_a_product(slots, rank), shape.bm, shape.bn, bool(early),
        num_warps=shape.warps, **early,
    )  # fmt: skip
