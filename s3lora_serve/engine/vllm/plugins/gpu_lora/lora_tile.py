"""What the kernels share: which slots a tile of tokens uses, and their share of its outputs.

For a token t with slot i and one slice of a layer,

    y[t] = W x[t] + B_i (A_i x[t]) = W x[t] + B_i s[t, i]

A tile of tokens holds a *bit mask* of its used slots: bit i is set where a token has slot i and slot i's
adapter has the module. A pruned module, an empty slot or base traffic is a zero bit, whose A and B are never
read.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _either(a, b):
    return a | b


@triton.jit
def used_slots(token_slot, live, S: tl.constexpr):
    """Bit mask, int32: the slots that tokens of the tile use and whose adapter has this module.

    token_slot [BM] int32: outside 0..S-1 for base traffic. live: pointer to the slice's int32 mask.
    """
    known = (token_slot >= 0) & (token_slot < S)
    bits = tl.where(known, 1 << tl.where(known, token_slot, 0), 0)
    return tl.reduce(bits, 0, _either) & tl.load(live)


@triton.jit
def first_slot(used, S: tl.constexpr):
    """The slot of a mask with one bit; 0 for none."""
    bit = tl.arange(0, S)
    return tl.sum(((used >> bit) & 1) * bit, 0)


@triton.jit
def group_is_used(used, first, SLOTS: tl.constexpr):
    """Whether one of SLOTS slots from ``first`` on is used. SLOTS = 32 is a whole mask."""
    if SLOTS == 32:
        return used != 0
    return ((used >> first) & ((1 << SLOTS) - 1)) != 0


@triton.jit
def groups_of(used, S: tl.constexpr, SLOTS: tl.constexpr):
    """How many groups of SLOTS slots hold a used one."""
    count = 0
    for first in tl.static_range(0, S, SLOTS):
        count += group_is_used(used, first, SLOTS).to(tl.int32)
    return count


@triton.jit
def delta(
    s_rows, b, token_slot, used, rn, N,
    S: tl.constexpr, R: tl.constexpr, SLOTS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    PIECES: tl.constexpr, CUTS: tl.constexpr, CACHE: tl.constexpr,
):  # fmt: skip
    """Σ_i B_i s[t, i] for a tile [BM, BN] float32, where t's slot is i and i is in ``used`` (not 0).

    s_rows [BM] pointers: of s[t, 0], S·R numbers a token, and partial sums BM·S·R apart, whose sum is s:
    PIECES of one used slot, CUTS of several. b: pointer to B [S, R, N] in the tile's slice; rn [BN]: its
    columns. SLOTS: how many slots one product takes. One used slot is the common case, and the cheap one.
    """
    if (used & (used - 1)) == 0:
        slot = first_slot(used, S)
        r = slot * R + tl.arange(0, R)
        w = tl.load(b + r[:, None].to(tl.int64) * N + rn[None, :])
        mine = (token_slot == slot)[:, None]
        s = tl.load(s_rows[:, None] + r[None, :], mask=mine, other=0.0, cache_modifier=CACHE)
        for p in tl.static_range(1, PIECES):
            s += tl.load(
                s_rows[:, None] + (p * BM * S * R + r)[None, :], mask=mine, other=0.0, cache_modifier=CACHE
            )
        acc = tl.dot(s.to(w.dtype), w)
    else:
        acc = tl.zeros((BM, BN), tl.float32)
        for first in range(0, S, SLOTS):
            if group_is_used(used, first, SLOTS):
                c = tl.arange(0, SLOTS * R)
                slots = first + c // R
                on = ((used >> slots) & 1) != 0
                r = first * R + c
                w = tl.load(b + r[:, None].to(tl.int64) * N + rn[None, :], mask=on[:, None], other=0.0)
                mine = (token_slot[:, None] == slots[None, :]) & on[None, :]
                s = tl.load(s_rows[:, None] + r[None, :], mask=mine, other=0.0, cache_modifier=CACHE)
                for p in tl.static_range(1, CUTS):
                    s += tl.load(
                        s_rows[:, None] + (p * BM * S * R + r)[None, :],
                        mask=mine,
                        other=0.0,
                        cache_modifier=CACHE,
                    )
                acc = tl.dot(s.to(w.dtype), w, acc)
    return acc


def slots_a_product(slots: int, rank: int) -> int:
    """SLOTS of ``delta``: as many as give a product of 64 inner elements, which is what registers bear."""
    return max(1, min(slots, 64 // rank))
