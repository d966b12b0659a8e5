"""MAS-SVD and the spectral sharpness index (SSI), in factor space (S3LoRA, arXiv 2508.15068).

With ``A Aᵀ = L Lᵀ``, the rows of ``B L`` have the norms and inner products of the rows of ``B A``. So the
spectrum of the row-normalised ΔW is that of an r×r matrix, ``Lᵀ (Bᵀ D⁻² B) L`` with D the row norms; columns
likewise with A and B exchanged. ΔW is never formed; the cost is O((out + in)·r²).

Accuracy. Eigenvalues of a Gram matrix carry the products' rounding relative to the *largest* one, so small
singular values suffer first. Each module is computed by the first of three tiers that can vouch for it:

1. float32 products, summed in float64 (see ``gram``): SSI within 2e-5 (2e-6 from rank 8 on);
2. float64 products: SSI within 1e-9;
3. float64 Householder QR, a module at a time: backward stable, for the rank-deficient and the contrived.

A tier vouches by an error estimate taken from the very factors that came, so an ill-conditioned pair
``(T A, B T⁻¹)`` costs time, but does not move the result. Float64 factors start at tier 2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from s3lora_serve.spectral.gram import Products, Workspace, products, unit_cholesky
from s3lora_serve.spectral.lowrank import LowRank, core
from s3lora_serve.spectral.threads import spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BLOCK = 512  # rows summed in float32 before float64 takes over
LEAST_BLOCK = 64  # a size that only divides into shorter blocks goes to float64
CHUNK = 1 << 20  # factor elements at work at a time: they fit the CPU's cache, and memory stays flat


@dataclass(frozen=True, eq=False)
class MasSpectrum:
    """The magnitude-aware spherically normalised spectrum of one ΔW."""

    sigma: Tensor  # [M] float64, descending, in ΔW's units
    ssi: float | None  # σ₁/Σσ in [1/M, 1]; None when ΔW = 0
    norm: float  # Frobenius norm of ΔW


@dataclass(frozen=True)
class _Tier:
    dtype: torch.dtype
    noise: float  # relative error of a Gram matrix's diagonal; generous: float32 was seen to reach 2.5e-7
    limit: float  # accepted estimate of SSI's error; the true error was below the estimate in every test

    def takes(self, module: LowRank) -> bool:
        """Whether the tier may try: it drops no precision of the factors, and blocks come out even."""
        if self.dtype is torch.float64:
            return True
        narrow = torch.float64 not in (module.a.dtype, module.b.dtype)
        return narrow and all(self.block(n) >= LEAST_BLOCK for n in module.shape)

    def block(self, n: int) -> int:
        """Rows in one block of a factor with n rows."""
        return n if self.dtype is torch.float64 else math.gcd(n, BLOCK)


_TIERS = (_Tier(torch.float32, 5e-7, 2e-5), _Tier(torch.float64, 2.0**-50, 1e-9))


def mas_svd(modules: Mapping[str, LowRank]) -> dict[str, MasSpectrum]:
    """MAS-SVD of every module, in the order given, with all singular values; inputs stay untouched.

    Raises ``ValueError`` for factors that are not finite.
    """
    found: dict[str, MasSpectrum] = {}
    for tier in _TIERS:
        left = {n: m for n, m in modules.items() if n not in found and tier.takes(m)}
        for part in spread(partial(_batched, left, tier), list(_chunks(left))):
            found |= part
    for part in spread(partial(_exact, modules), [n for n in modules if n not in found]):
        found |= part
    return {name: found[name] for name in modules}


@torch.no_grad()  # factors may be parameters; and it is quicker
def _batched(
    modules: Mapping[str, LowRank], tier: _Tier, chunks: Sequence[list[str]]
) -> dict[str, MasSpectrum]:
    """The spectra of those modules of the chunks that the tier can vouch for."""
    space = Workspace(tier.dtype)
    by_rank: dict[int, list[tuple[list[str], Products]]] = defaultdict(list)
    for names in chunks:
        chunk = [modules[name] for name in names]
        by_rank[chunk[0].rank].append((names, products(chunk, tier.block, space)))
    found: dict[str, MasSpectrum] = {}
    for parts in by_rank.values():
        p = Products.concatenate([part for _, part in parts])
        row, row_error = _normalised_spectrum(p.rows, p.gram_a, tier.noise)
        col, col_error = _normalised_spectrum(p.cols, p.gram_b, tier.noise)
        sigma = (row * col).sqrt() * (p.row_mean * p.col_mean).sqrt().unsqueeze(1)
        norm = (p.gram_a * p.gram_b).sum((1, 2)).clamp(min=0).sqrt()
        sure = ((row_error + col_error <= tier.limit) & ~p.lost).tolist()
        names = [name for names, _ in parts for name in names]
        spectra = _spectra(sigma, norm, [modules[name].scaling for name in names])
        found |= {n: s for n, s, good in zip(names, spectra, sure, strict=True) if good}
    return found


def _chunks(modules: Mapping[str, LowRank]) -> Iterator[list[str]]:
    """Names of modules of one shape and rank, at most ``CHUNK`` elements at a time."""
    shapes: dict[tuple[int, int, int], list[str]] = defaultdict(list)
    for name, module in modules.items():
        shapes[(*module.shape, module.rank)].append(name)
    for (out, inp, r), names in shapes.items():
        size = max(1, CHUNK // ((out + inp) * r))
        yield from (names[i : i + size] for i in range(0, len(names), size))


def _normalised_spectrum(h: Tensor, gram_other: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Singular values [m, r] from ``h = Lᵀ (Xᵀ D⁻² X) L``, L Lᵀ = gram_other; and SSI's estimated error [m].

    The error is inf or NaN where nothing can be said.
    """
    identity = torch.eye(h.shape[-1], dtype=h.dtype)
    # eigvalsh raises on NaN; such a module's error stays NaN, which no limit accepts.
    usable = torch.where(h.isfinite().all(-1).all(-1)[:, None, None], h, identity)
    sigma = torch.linalg.eigvalsh(usable).flip(-1).clamp(min=0).sqrt()
    # Rounding hits the diagonals most: sums of squares never cancel. δ(Xᵀ D⁻² X) ≈ noise·diagonal gives
    # ‖δH‖ ≤ noise·‖(L Lᵀ)_kk·(Xᵀ D⁻² X)_kk‖ over k; each λ = σ² moves by up to that, and dσ = dλ/2σ.
    factor, _, _ = unit_cholesky(gram_other)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    weighted = (inverse.mT @ h @ inverse).diagonal(dim1=1, dim2=2)
    moved = noise * (factor.square().sum(2) * weighted).norm(dim=1)
    return sigma, moved * (0.5 / sigma).sum(1) / sigma.sum(1)


@torch.no_grad()
def _exact(modules: Mapping[str, LowRank], names: Sequence[str]) -> dict[str, MasSpectrum]:
    return {name: _exact_one(name, modules[name]) for name in names}


def _exact_one(name: str, module: LowRank) -> MasSpectrum:
    """One module by Householder QR in float64; no Gram matrix is formed."""
    if not (module.a.isfinite().all() and module.b.isfinite().all()):
        raise ValueError(f"{name}: the factors hold NaN or infinite values")
    if not (module.a.any() and module.b.any()):
        nothing = torch.zeros(1, min(module.rank, *module.shape), dtype=torch.float64)
        return _spectra(nothing, nothing[:, 0], [0.0])[0]
    unit = module.unit()
    a, b, size = unit.a.mT, unit.b, float(module.a.abs().max()) * float(module.b.abs().max())
    row, row_norms = _exact_side(b, a)
    col, col_norms = _exact_side(a, b)
    sigma = (row * col).sqrt() * (row_norms.mean() * col_norms.mean()).sqrt()
    norm = torch.linalg.vector_norm(row_norms)
    return _spectra(sigma.unsqueeze(0), norm.unsqueeze(0), [module.scaling], size)[0]


def _exact_side(x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values of X·otherᵀ once its rows are normalised, and the norms of those rows before."""
    r_factor = core(other)
    rows = x @ r_factor.mT
    norms = torch.linalg.vector_norm(rows, dim=1)
    # A row that cancels down to rounding is a zero row: it is masked, not blown up to norm 1.
    rounding = 2.0**-48 * (x.abs() @ torch.linalg.vector_norm(r_factor, dim=0))
    norms = torch.where(norms > rounding, norms, 0.0)
    inverse = torch.where(norms > 0, norms.reciprocal(), 0.0)
    rank = min(*x.shape, other.shape[0])
    return torch.linalg.svdvals(core(rows * inverse.unsqueeze(1)))[:rank], norms


def _spectra(sigma: Tensor, norm: Tensor, scaling: Sequence[float], size: float = 1.0) -> list[MasSpectrum]:
    """Results for modules with ``sigma`` [m, r] and ``norm`` [m] before ``scaling`` and ``size``.

    SSI is a ratio, taken before: no scale of the update, however extreme, moves it or makes it NaN.
    """
    scale = torch.tensor(scaling, dtype=torch.float64).abs() * size
    columns = (
        (sigma * scale.unsqueeze(1)).unbind(),
        sigma[:, 0].tolist(),
        sigma.sum(1).tolist(),
        (norm * scale).tolist(),
    )
    return [
        MasSpectrum(s, top / total if total > 0 and factor != 0 else None, n)
        for s, top, total, n, factor in zip(*columns, scaling, strict=True)
    ]
