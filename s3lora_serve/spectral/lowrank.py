"""A LoRA update kept as its two thin factors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """``ΔW = scaling · b @ a`` of one adapted linear layer; never formed.

    The factors may have any floating dtype; every quantity below is computed and returned in float64.
    """

    a: Tensor  # [r, in]
    b: Tensor  # [out, r]
    scaling: float

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1]:
            raise ValueError(f"factors do not match: a {tuple(self.a.shape)}, b {tuple(self.b.shape)}")

    @property
    def rank(self) -> int:
        """r, the number of rows of ``a``."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of ΔW."""
        return int(self.b.shape[0]), int(self.a.shape[1])

    def unit(self) -> LowRank:
        """The update up to its scale: float64 factors of largest magnitude 1, scaling 1.

        No product of these leaves float64's range. Only for factors that are finite and not zero.
        """
        a, b = self.a.double(), self.b.double()
        return LowRank(a / a.abs().max(), b / b.abs().max(), 1.0)

    def row_norms(self) -> Tensor:
        """‖ΔW[i, :]‖₂ for each output i, float64 [out]."""
        norms: Tensor = torch.linalg.vector_norm(self.b.double() @ core(self.a.mT).mT, dim=1)
        return abs(self.scaling) * norms

    def singular_values(self) -> Tensor:
        """The singular values of ΔW that can differ from zero, descending, float64 [min(r, out, in)]."""
        sigma: Tensor = torch.linalg.svdvals(core(self.b) @ core(self.a.mT).mT)
        return abs(self.scaling) * sigma


def core(tall: Tensor) -> Tensor:
    """The small factor R of ``tall = Q R``, float64 [min(n, r), r]: it has all of ``tall``'s inner products.

    Householder QR, not a Gram matrix, whose condition number would be squared.
    """
    r: Tensor = torch.linalg.qr(tall.double(), mode="r").R
    return r
