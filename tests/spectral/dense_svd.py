"""MAS-SVD as the paper writes it, dense and in float64: what the factor-space code must agree with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from s3lora_serve.spectral.lowrank import LowRank


def delta(module: LowRank) -> Tensor:
    """ΔW [out, in] in float64."""
    return module.scaling * (module.b.double() @ module.a.double())


def dense_sigma(w: Tensor, m: int) -> Tensor:
    """The M largest MAS-SVD singular values of ΔW, by two dense SVDs; zero rows and columns stay zero."""
    rows, cols = w.norm(dim=1), w.norm(dim=0)
    x_row = torch.where(rows[:, None] > 0, w / rows[:, None], 0.0)
    x_col = torch.where(cols[None, :] > 0, w / cols[None, :], 0.0)
    sigma_row, sigma_col = torch.linalg.svdvals(x_row)[:m], torch.linalg.svdvals(x_col)[:m]
    return ((rows.mean() * sigma_row) * (cols.mean() * sigma_col)).sqrt()


def dense_ssi(module: LowRank) -> float:
    """σ₁/Σσ of the dense spectrum over the exact rank bound."""
    sigma = dense_sigma(delta(module), min(module.rank, *module.shape))
    return float(sigma[0] / sigma.sum())


def svd_sharpness(w: Tensor, m: int) -> float:
    """σ₁/Σσ of ΔW itself."""
    sigma = torch.linalg.svdvals(w)[:m]
    return float(sigma[0] / sigma.sum())
