"""One launch for a whole LoRA linear of few tokens: y = W x + bias + B (A x).

Few tokens make a linear a stream of W through the chip, bound by memory. LoRA's two small products hide in
it:

* *Helper blocks* have the lowest block numbers, so the chip starts them first, HELP for each slice of the
  layer. They share out the *units*: one of PIECES pieces of K for the used slot; where several are used, one
  of CUTS pieces for a group of SLOTS neighbours, whose A lie side by side. Each writes its part of s = A x
  and adds 1 to the slice's flag (release).
* *Base blocks* stream W. At ``meet`` of the K loop (``late`` if several slots are used) a block whose tile
  uses a slot waits for all units of its slice (acquire), and adds B s with one product. The tiles of W in
  flight cover the detour. A tile that uses no slot never looks.

A piece of a group takes hardly longer than one of a slot: its loop has as many steps, and a step only waits
for memory. So several adapters cost what one does.

Flags are zeroed by the next layer of the same kind, which the stream runs later: no launch for that. So a
layer must run once a forward, in the order of the model, and on one stream. The wait is bounded: when it ends
without the units, or finds more of them than there can be (a layer that ran twice), the kernel writes the
layer's number to ``error``, which is the host's memory, gives NaN, and on a GPU traps: the engine then ends
with an error, and no token of that step is ever read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

from s3lora_serve.engine.vllm.plugins.gpu_lora.lora_tile import (
    delta,
    first_slot,
    group_is_used,
    groups_of,
    slots_a_product,
    used_slots,
)

if TYPE_CHECKING:
    from torch import Tensor

    from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import FusedShape

FLAGS = 8  # where a layer's flags begin in its state: [live 0..3 | number | … | flags 8..11]
NUMBER = 4
HELP = 4  # helper blocks a slice: with N / BN = 128 base blocks, exactly one block an SM of 132
SPINS = 1 << 22  # polls, of about 0.7 µs: some seconds


@triton.jit
def shrink_piece(
    x_cut, a_cut, out, keep, begin, end,
    WIDTH: tl.constexpr, BM: tl.constexpr, SK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Write x A over columns begin..end of K to ``out`` [BM, WIDTH]; x_cut [BM, SK], a_cut [SK, WIDTH]."""
    acc = tl.zeros((BM, WIDTH), tl.float32)
    for k in tl.range(begin, end, SK, num_stages=STAGES):
        acc = tl.dot(tl.load(x_cut + k, mask=keep[:, None], other=0.0), tl.load(a_cut + k), acc)
    tl.store(out, acc)


@triton.jit(do_not_specialize=["M"])
def fused_linear_kernel(
    x,  # [M, K] bf16, rows stride_x apart
    w,  # [N + PARTS·S·R, K] bf16: W, and below it every slot's A: slice by slice, slot by slot
    bias,  # [N] bf16, read where BIAS
    b,  # [S, R, N] bf16: every slot's B, transposed, the slices side by side
    y,  # [M, ≥ N] bf16, rows stride_y apart: written, columns of N only
    s,  # [PARTS, max(PIECES, CUTS), BM, S·R] float32: scratch
    state,  # [≥ 12] int32 of this layer: live masks, number, flags
    clear,  # the state of the layer of this kind that ran before: its flags are zeroed
    slot,  # [≥ M] int32: each token's slot
    error,  # [1] int32
    M, N, K,
    e1, e2,  # where the second and third slice begin; N if there is none
    stride_x, stride_y, meet, late,
    S: tl.constexpr, R: tl.constexpr, SLOTS: tl.constexpr, PARTS: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr,
    SK: tl.constexpr, SSTAGES: tl.constexpr,
    PIECES: tl.constexpr, CUTS: tl.constexpr, HELPERS: tl.constexpr,
    FLAG0: tl.constexpr, NUMBER_AT: tl.constexpr, BIAS: tl.constexpr, LIMIT: tl.constexpr, TRAP: tl.constexpr,
):  # fmt: skip
    MOST: tl.constexpr = PIECES if PIECES > CUTS else CUTS
    pid = tl.program_id(0)
    rm = tl.arange(0, BM)
    inside = rm < M
    token_slot = tl.load(slot + rm, mask=inside, other=-1)
    flags = state + FLAG0
    if pid < PARTS * HELPERS:
        if pid == 0:
            tl.store(clear + FLAG0 + tl.arange(0, 4), tl.zeros((4,), tl.int32))
        part = pid // HELPERS
        used = used_slots(token_slot, state + part, S)
        steps = K // SK
        rsk = tl.arange(0, SK)
        x_cut = x + rm[:, None] * stride_x + rsk[None, :]  # [BM, SK]
        a_of_part = w + (N + part * S * R).to(tl.int64) * K + rsk[:, None]
        s_of_part = s + (part * MOST * BM + rm[:, None]) * (S * R)
        if (used & (used - 1)) == 0:
            i = first_slot(used, S)
            rr = i * R + tl.arange(0, R)
            for piece in range(pid % HELPERS, tl.where(used == 0, 0, PIECES), HELPERS):
                shrink_piece(
                    x_cut, a_of_part + rr.to(tl.int64)[None, :] * K,
                    s_of_part + piece * BM * S * R + rr[None, :],
                    token_slot == i, steps * piece // PIECES * SK, steps * (piece + 1) // PIECES * SK,
                    R, BM, SK, SSTAGES,
                )  # fmt: skip
                tl.debug_barrier()  # every thread's part of s is written before one of them raises the flag
                tl.atomic_add(flags + part, 1, sem="release")
        else:
            for unit in range(pid % HELPERS, S // SLOTS * CUTS, HELPERS):
                first, piece = unit // CUTS * SLOTS, unit % CUTS
                if group_is_used(used, first, SLOTS):
                    rr = first * R + tl.arange(0, SLOTS * R)
                    shrink_piece(
                        x_cut, a_of_part + rr.to(tl.int64)[None, :] * K,
                        s_of_part + piece * BM * S * R + rr[None, :],
                        inside, steps * piece // CUTS * SK, steps * (piece + 1) // CUTS * SK,
                        SLOTS * R, BM, SK, SSTAGES,
                    )  # fmt: skip
                    tl.debug_barrier()
                    tl.atomic_add(flags + part, 1, sem="release")
    else:
        n0 = (pid - PARTS * HELPERS) * BN
        part = (n0 >= e1).to(tl.int32) + (n0 >= e2).to(tl.int32)
        used = used_slots(token_slot, state + part, S)
        rn = n0 + tl.arange(0, BN)
        rk = tl.arange(0, BK)
        w_rows = w + rn.to(tl.int64)[None, :] * K + rk[:, None]  # [BK, BN]
        x_rows = x + rm[:, None] * stride_x + rk[None, :]  # [BM, BK]
        s_rows = s + (part * MOST * BM + rm) * (S * R)
        several = (used & (used - 1)) != 0
        at = tl.where(several, late, meet)
        acc = tl.zeros((BM, BN), tl.float32)
        for k in tl.range(0, K, BK, num_stages=STAGES):
            xs = tl.load(x_rows + k, mask=inside[:, None], other=0.0)
            acc = tl.dot(xs, tl.load(w_rows + k, eviction_policy="evict_first"), acc)
            if (k == at) & (used != 0):
                need = tl.where(several, groups_of(used, S, SLOTS) * CUTS, PIECES)
                turns = 0
                done = tl.atomic_add(flags + part, 0, sem="acquire")
                while (done < need) & (turns < LIMIT):
                    done = tl.atomic_add(flags + part, 0, sem="acquire")
                    turns += 1
                acc += delta(s_rows, b, token_slot, used, rn, N, S, R, SLOTS, BM, BN, PIECES, CUTS, ".cg")
                if done != need:
                    acc += float("nan")
                    tl.store(error, tl.load(state + NUMBER_AT))
                    if TRAP:
                        tl.inline_asm_elementwise(
                            "membar.sys; trap; mov.u32 $0, $1;", "=r,r", [turns], tl.int32, False, 1
                        )
        if BIAS:
            acc += tl.load(bias + rn)[None, :].to(tl.float32)
        tl.store(y + rm[:, None] * stride_y + rn[None, :], acc.to(y.dtype.element_ty), mask=inside[:, None])


def fused_linear(
    x: Tensor,
    w_aug: Tensor,
    bias: Tensor | None,
    b_all: Tensor,
    y: Tensor,
    s: Tensor,
    state: Tensor,
    clear: Tensor,
    slot: Tensor,
    error: Tensor,
    ends: tuple[int, int],
    parts: int,
    shape: FusedShape,
    spins: int = SPINS,
) -> None:
    """Write y[:, :N]; for at most ``shape.tokens`` tokens, and a K and slices that ``shape.fits``."""
    (m, k), (slots, rank, n) = x.shape, b_all.shape
    fused_linear_kernel[(parts * HELP + n // shape.bn,)](
        x, w_aug, w_aug if bias is None else bias, b_all, y, s, state, clear, slot, error, m, n, k, *ends,
        x.stride(0) if m > 1 else k, y.stride(0) if m > 1 else n,
        shape.meet_at(k, shape.meet), shape.meet_at(k, shape.late),
        slots, rank, slots_a_product(slots, rank), parts,
        shape.tokens, shape.bn, shape.bk, shape.stages, shape.shrink_k, shape.shrink_stages,
        shape.pieces, shape.cuts, HELP, FLAGS, NUMBER, bias is not None, spins, x.is_cuda,
        num_warps=shape.warps,
    )  # fmt: skip
