"""Five numbers that say what shape a ΔW has: the statistics of arXiv 2602.15195.

All are exact. Singular values come from the factors. Kurtosis is of ΔW's entries: with their mean taken off,
ΔW is ``X Yᵀ`` of rank r + 1 at most, and the sum of the entries' fourth powers comes from the Gram matrices
of the pairwise products of X's and of Y's columns. At high ranks there are too many pairs; there ΔW is
formed, a block of rows at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from s3lora_serve.spectral.threads import spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from s3lora_serve.spectral.lowrank import LowRank

BLOCK = 1 << 20  # entries of ΔW formed at a time: 8 MiB
ROUNDING = 2.0**-48  # what is smaller, relative to what it was computed from, is zero


@dataclass(frozen=True)
class SpectralStatistics:
    """One ΔW. Only ``sigma_1`` and ``norm`` depend on its scale; the others are None when ΔW = 0."""

    sigma_1: float  # largest singular value
    norm: float  # Frobenius norm
    energy: float | None  # energy concentration: σ₁/Σσ, in [1/r, 1]
    entropy: float | None  # of σ/Σσ, in nats: 0 (one direction) to log r
    kurtosis: (
        float | None
    )  # excess kurtosis of the entries: 0 for a normal distribution; None if all are equal


def statistics(modules: Mapping[str, LowRank]) -> dict[str, SpectralStatistics]:
    """The statistics of every module, in the order given, in float64; inputs stay untouched.

    Raises ``ValueError``, naming the module, for factors that are not finite.
    """
    found: dict[str, SpectralStatistics] = {}
    for part in spread(partial(_statistics, modules), list(modules)):
        found |= part
    return {name: found[name] for name in modules}


@torch.no_grad()
def _statistics(modules: Mapping[str, LowRank], names: Sequence[str]) -> dict[str, SpectralStatistics]:
    return {name: _of(name, modules[name]) for name in names}


def _of(name: str, module: LowRank) -> SpectralStatistics:
    if not (module.a.isfinite().all() and module.b.isfinite().all()):
        raise ValueError(f"{name}: the factors hold NaN or infinite values")
    if module.scaling == 0 or not (module.a.any() and module.b.any()):
        return SpectralStatistics(0.0, 0.0, None, None, None)
    unit = module.unit()
    sigma = unit.singular_values()
    if float(sigma[0]) <= ROUNDING * float(unit.a.norm() * unit.b.norm()):
        return SpectralStatistics(0.0, 0.0, None, None, None)  # the factors cancel
    total = float(sigma.sum())
    size = abs(module.scaling) * float(module.a.abs().max()) * float(module.b.abs().max())
    return SpectralStatistics(
        sigma_1=size * float(sigma[0]),
        norm=size * float(torch.linalg.vector_norm(sigma)),
        energy=float(sigma[0]) / total,
        entropy=float(torch.special.entr(sigma / total).sum()),
        kurtosis=_kurtosis(unit),
    )


def _kurtosis(unit: LowRank) -> float | None:
    """Excess kurtosis of the entries of ``b @ a``: n·Σw⁴/(Σw²)² − 3 with their mean taken off first."""
    (out, inp), b, a = unit.shape, unit.b, unit.a.mT
    mean = float(b.sum(0) @ a.sum(0)) / (out * inp)
    left, right = _balanced(
        torch.cat([b, b.new_full((out, 1), -mean)], 1), torch.cat([a, a.new_ones(inp, 1)], 1)
    )
    variation = float(left.square().sum())  # right has orthonormal columns
    if variation <= ROUNDING**2 * max(mean**2 * out * inp, float(unit.singular_values()[0]) ** 2):
        return None
    left = left / variation**0.5
    pairs = left.shape[1] * (left.shape[1] + 1) // 2
    in_factors = pairs * pairs * (out + inp) < 4 * out * inp * left.shape[1]
    fourth = _fourth_of_pairs(left, right) if in_factors else _fourth_of_blocks(left, right)
    return out * inp * fourth - 3


def _balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """``left @ rightᵀ`` as (U·diag(σ), V) of its own SVD: no pair of factors cancels, whatever basis came."""
    left_q, left_r = torch.linalg.qr(left)
    right_q, right_r = torch.linalg.qr(right)
    u, sigma, vh = torch.linalg.svd(left_r @ right_r.mT, full_matrices=False)
    return left_q @ (u * sigma), right_q @ vh.mT


def _fourth_of_pairs(left: Tensor, right: Tensor) -> float:
    """Σ of the fourth powers of the entries of ``left @ rightᵀ``, of which nothing is formed."""
    i, j = torch.triu_indices(left.shape[1], left.shape[1])
    twice = torch.where(i == j, 1.0, 2.0).double()  # w² = Σ over i ≤ j of twice·(xᵢxⱼ)(yᵢyⱼ)
    x, y = left[:, i] * left[:, j], right[:, i] * right[:, j]
    return float((twice[:, None] * (x.mT @ x) * twice * (y.mT @ y)).sum())


def _fourth_of_blocks(left: Tensor, right: Tensor) -> float:
    """The same, forming a block of rows at a time."""
    rows = max(1, BLOCK // right.shape[0])
    starts = range(0, left.shape[0], rows)
    return sum((float((left[at : at + rows] @ right.mT).pow(4).sum()) for at in starts), 0.0)
