"""Batched products of tall, thin matrices: the hot loop of scoring.

A batch of m matrices [n, r] is held as blocks [m, n/block, block, r]. Each block's Gram matrix is a product
in the blocks' dtype, and the blocks are summed in float64. Short blocks are what makes float32 products good
enough: the rounding error of a sum of positive terms grows with its length, and errors of blocks cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3lora_serve.spectral.lowrank import LowRank

# The square of anything smaller leaves the dtype's normal range.
SMALL_NORM = {dtype: 100 * math.sqrt(torch.finfo(dtype).tiny) for dtype in (torch.float32, torch.float64)}


class Workspace:
    """Scratch memory that every chunk uses again: fresh pages would cost more than the arithmetic."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._held: dict[str, Tensor] = {}

    def take(self, use: str, *shape: int) -> Tensor:
        """Uninitialised memory of ``shape`` for ``use``; invalidates what was taken for it before."""
        size = math.prod(shape)
        if use not in self._held or self._held[use].numel() < size:
            self._held[use] = torch.empty(size, dtype=self.dtype)
        return self._held[use][:size].view(shape)


@dataclass(frozen=True)
class Products:
    """All that MAS-SVD needs to know of a batch of factors, as small float64 matrices."""

    gram_a: Tensor  # [m, r, r] A Aᵀ
    gram_b: Tensor  # [m, r, r] BᵀB
    rows: Tensor  # [m, r, r] has the eigenvalues of ΔW's normalised rows' Gram matrix: their σ²
    cols: Tensor  # [m, r, r] the same of its columns
    row_mean: Tensor  # [m] mean row norm, zero rows included
    col_mean: Tensor  # [m]
    lost: Tensor  # [m] bool: some row or column could not be normalised in this dtype

    @staticmethod
    def concatenate(parts: Sequence[Products]) -> Products:
        """One batch out of several of the same rank."""
        return Products(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Products)))


def products(modules: Sequence[LowRank], block: Callable[[int], int], space: Workspace) -> Products:
    """Multiply out modules of one shape and rank, scaling left out. ``block(n)`` must divide n."""
    out, inp = modules[0].shape
    b = _blocks_of_b([m.b for m in modules], block(out), space)
    a = _blocks_of_a([m.a for m in modules], block(inp), space)
    gram_a, gram_b = _gram(a, space), _gram(b, space)
    rows, row_mean, lost_rows = _normalised_gram(b, gram_a, space)
    cols, col_mean, lost_cols = _normalised_gram(a, gram_b, space)
    return Products(gram_a, gram_b, rows, cols, row_mean, col_mean, lost_rows | lost_cols)


def unit_cholesky(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(L, scale [m], failed [m] bool) with ``scale · L Lᵀ = gram``; the scale keeps L near 1 in any dtype."""
    scale = gram.diagonal(dim1=1, dim2=2).mean(1)
    factor, info = torch.linalg.cholesky_ex(gram / scale[:, None, None])
    return factor, scale, info != 0


def _blocks_of_b(factors: Sequence[Tensor], block: int, space: Workspace) -> Tensor:
    """A private copy of B factors [n, r] as [m, n/block, block, r]."""
    n, r = factors[0].shape
    blocks = space.take("b", len(factors), n // block, block, r)
    for target, b in zip(blocks, factors, strict=True):
        target.copy_(b.reshape(n // block, block, r))
    return blocks


def _blocks_of_a(factors: Sequence[Tensor], block: int, space: Workspace) -> Tensor:
    """A private copy of A factors [r, n], seen as Aᵀ: [m, n/block, block, r]."""
    r, n = factors[0].shape
    blocks = space.take("a", len(factors), n // block, r, block)
    for target, a in zip(blocks, factors, strict=True):
        target.copy_(a.reshape(r, n // block, block).transpose(0, 1))
    return blocks.mT


def _gram(blocks: Tensor, space: Workspace) -> Tensor:
    """XᵀX of each matrix of the batch, float64 [m, r, r]."""
    m, per_matrix, _, r = blocks.shape
    flat = blocks.flatten(0, 1)
    parts = torch.bmm(flat.mT, flat, out=space.take("gram", m * per_matrix, r, r))
    return parts.view(m, per_matrix, r, r).sum(1, dtype=torch.float64)


def _normalised_gram(x: Tensor, gram_other: Tensor, space: Workspace) -> tuple[Tensor, Tensor, Tensor]:
    """Σ y_iᵀ y_i / ‖y_i‖² over the rows y_i = x_i·L, L Lᵀ being gram_other up to scale; zero rows add none.

    Returns it [m, r, r] with the mean of ‖x_i·other‖ [m], both float64, and whether anything was lost [m].
    """
    m, per_matrix, block, r = x.shape
    factor, scale, lost = unit_cholesky(gram_other)
    wide = factor.to(space.dtype).unsqueeze(1).expand(m, per_matrix, r, r).reshape(-1, r, r)
    flat = torch.bmm(x.flatten(0, 1), wide, out=space.take("product", m * per_matrix, block, r))
    y = flat.view(m, per_matrix, block, r)
    norms = torch.linalg.vector_norm(y, dim=-1, out=space.take("norms", m, per_matrix, block))
    mean = norms.mean((1, 2)).double() * scale.sqrt()
    if float(norms.min()) < SMALL_NORM[space.dtype]:
        small = norms < SMALL_NORM[space.dtype]
        lost = lost | ((x != 0).any(-1) & small).flatten(1).any(1)
        norms.masked_fill_(small, torch.inf)
    y.mul_(norms.reciprocal_().unsqueeze(-1))
    return _gram(y, space), mean, lost
