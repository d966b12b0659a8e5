"""One row per scorer: how risky each module of an adapter looks. Higher is riskier."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from s3lora_serve.spectral.ediem import e_diem
from s3lora_serve.spectral.masvd import MasSpectrum, mas_svd
from s3lora_serve.spectral.projection import projections
from s3lora_serve.spectral.released import reference_index
from s3lora_serve.spectral.report import ModuleRow, SpectralReport

if TYPE_CHECKING:
    from torch import Tensor

    from s3lora_serve.spectral.lowrank import LowRank

SCORER_VERSION = "1"  # part of a revision's identity: raise it whenever a score can change


@dataclass(frozen=True, eq=False)
class Material:
    """What a scorer may look at."""

    modules: Mapping[str, LowRank]  # those with ΔW ≠ 0
    spectra: Mapping[str, MasSpectrum]
    seed: int
    alignment: Mapping[str, Tensor]  # V = W_aligned − W_base by module; empty unless the scorer needs it


Scores = dict[str, float | None]
Scorer = Callable[[Material], Scores]
"""Material → a score by module name; None, or no entry, where there is nothing to score."""


def score(
    modules: Mapping[str, LowRank],
    scorer: str = "mas-svd",
    *,
    seed: int = 0,
    alignment: Mapping[str, Tensor] | None = None,
) -> SpectralReport:
    """Score every module; a pure function of the factors, the scorer, the seed and, if used, the alignment.

    Rows stand in the order of ``modules`` and always carry MAS-SVD's spectrum and SSI, whatever the scorer.
    Inert modules (ΔW = 0) have neither SSI nor score. ``alignment`` gives V = W_aligned − W_base of a module,
    [out, in] in any floating dtype. Only the scorers in ``NEEDS_ALIGNMENT`` read it, once for each module
    that is not inert; they give no score to a module with V = 0.

    Raises ``ValueError`` for an unknown scorer, for factors that are not finite, and for such a scorer
    without an alignment, or with one that lacks a module, has another shape or is not finite; it names the
    module.
    """
    if scorer not in SCORERS:
        raise ValueError(f"unknown scorer {scorer!r}; known: {', '.join(SCORERS)}")
    if scorer in NEEDS_ALIGNMENT and alignment is None:
        raise ValueError(f"scorer {scorer!r} needs an alignment: W_aligned − W_base of every module")
    spectra = mas_svd(modules)
    active = {name: module for name, module in modules.items() if spectra[name].ssi is not None}
    scores = SCORERS[scorer](Material(active, spectra, seed, alignment or {}))
    rows = {
        name: ModuleRow(
            module=name,
            shape=module.shape,
            rank=module.rank,
            scaling=module.scaling,
            norm=spectra[name].norm,
            ssi=spectra[name].ssi,
            score=scores.get(name),
            sigma=tuple(spectra[name].sigma.tolist()),
            inert=name not in active,
        )
        for name, module in modules.items()
    }
    return SpectralReport(scorer, SCORER_VERSION, rows)


def _mas_svd(given: Material) -> Scores:
    """MAS-SVD's SSI (arXiv 2508.15068)."""
    return {name: given.spectra[name].ssi for name in given.modules}


def _svd(given: Material) -> Scores:
    """σ₁/Σσ of ΔW itself: no normalisation, the paper's first ablation."""
    return {
        name: _sharpness(module.unit().singular_values().tolist()) for name, module in given.modules.items()
    }


def _spsvd(given: Material) -> Scores:
    """SpSVD (arXiv 2402.09754): σ_k = sqrt(σ_row_k·σ_col_k), MAS-SVD without its magnitude step.

    That step multiplies a module's whole spectrum by sqrt(r̄·c̄), which cancels in σ₁/Σσ: as a score, SpSVD and
    MAS-SVD are one and the same. It is kept as a name because the paper's ablation has it.
    """
    return {name: given.spectra[name].ssi for name in given.modules}


def _reference(given: Material) -> Scores:
    """The released code's index, which is not the method; see ``released``. Minutes per large module."""
    return {name: reference_index(module) for name, module in given.modules.items()}


def _e_diem(given: Material) -> Scores:
    """SPLoRA's E-DIEM of ‖C·ΔW − ΔW‖_F among the adapter's modules of the same shape; see ``ediem``."""
    found = projections(given.modules, given.alignment)
    shapes = {name: given.modules[name].shape for name in found}
    return dict(e_diem({name: projection.distance for name, projection in found.items()}, shapes))


def _safelora(given: Material) -> Scores:
    """1 − cos(C·ΔW, ΔW), SafeLoRA's projection test: 0 where C only stretches ΔW, 1 where none is left."""
    found = projections(given.modules, given.alignment)
    return {name: 1 - projection.cosine for name, projection in found.items()}


def _random(given: Material) -> Scores:
    """Uniform in [0, 1), drawn from seed and name alone: the control every claim is measured against."""
    return {name: _uniform(f"{given.seed}:{name}") for name in given.modules}


def _sharpness(sigma: list[float]) -> float | None:
    total = sum(sigma)
    return sigma[0] / total if total > 0 else None


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2.0**48


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {
        "mas-svd": _mas_svd,
        "svd": _svd,
        "spsvd": _spsvd,
        "reference": _reference,
        "e-diem": _e_diem,
        "safelora": _safelora,
        "random": _random,
    }
)
NEEDS_ALIGNMENT = frozenset({"e-diem", "safelora"})
"""Scorers that compare ΔW with what alignment changed in the base model."""
