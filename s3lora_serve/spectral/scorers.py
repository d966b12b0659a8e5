"""One row per scorer: how risky each module of an adapter looks. Higher is riskier."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.masvd import MasSpectrum, mas_svd
from s3lora_serve.spectral.reference import reference_index
from s3lora_serve.spectral.report import ModuleRow, SpectralReport

SCORER_VERSION = "1"  # part of a revision's identity: raise it whenever a score can change

Scores = dict[str, float | None]
Scorer = Callable[[Mapping[str, LowRank], Mapping[str, MasSpectrum], int], Scores]
"""Modules, their MAS spectra and a seed → a score by module name; None where there is nothing to score."""


def score(modules: Mapping[str, LowRank], scorer: str = "mas-svd", *, seed: int = 0) -> SpectralReport:
    """Score every module; a pure function of the factors, the scorer and the seed.

    Rows stand in the order of ``modules`` and always carry MAS-SVD's spectrum and SSI, whatever the scorer.
    Inert modules (ΔW = 0) have neither SSI nor score. Raises ``ValueError`` for an unknown scorer and for
    factors that are not finite.
    """
    if scorer not in SCORERS:
        raise ValueError(f"unknown scorer {scorer!r}; known: {', '.join(SCORERS)}")
    spectra = mas_svd(modules)
    active = {name: module for name, module in modules.items() if spectra[name].ssi is not None}
    scores = SCORERS[scorer](active, spectra, seed)
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


def _mas_svd(modules: Mapping[str, LowRank], spectra: Mapping[str, MasSpectrum], seed: int) -> Scores:
    """MAS-SVD's SSI (arXiv 2508.15068)."""
    return {name: spectra[name].ssi for name in modules}


def _svd(modules: Mapping[str, LowRank], spectra: Mapping[str, MasSpectrum], seed: int) -> Scores:
    """σ₁/Σσ of ΔW itself: no normalisation, the paper's first ablation."""
    return {name: _sharpness(module.unit().singular_values().tolist()) for name, module in modules.items()}


def _spsvd(modules: Mapping[str, LowRank], spectra: Mapping[str, MasSpectrum], seed: int) -> Scores:
    """SpSVD (arXiv 2402.09754): σ_k = sqrt(σ_row_k·σ_col_k), MAS-SVD without its magnitude step.

    That step multiplies a module's whole spectrum by sqrt(r̄·c̄), which cancels in σ₁/Σσ: as a score, SpSVD and
    MAS-SVD are one and the same. It is kept as a name because the paper's ablation has it.
    """
    return {name: spectra[name].ssi for name in modules}


def _reference(modules: Mapping[str, LowRank], spectra: Mapping[str, MasSpectrum], seed: int) -> Scores:
    """The released code's index, which is not the method; see ``reference``. Minutes per large module."""
    return {name: reference_index(module) for name, module in modules.items()}


def _random(modules: Mapping[str, LowRank], spectra: Mapping[str, MasSpectrum], seed: int) -> Scores:
    """Uniform in [0, 1), drawn from seed and name alone: the control every claim is measured against."""
    return {name: _uniform(f"{seed}:{name}") for name in modules}


def _sharpness(sigma: list[float]) -> float | None:
    total = sum(sigma)
    return sigma[0] / total if total > 0 else None


def _uniform(key: str) -> float:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2.0**48


SCORERS: Mapping[str, Scorer] = MappingProxyType(
    {"mas-svd": _mas_svd, "svd": _svd, "spsvd": _spsvd, "reference": _reference, "random": _random}
)
