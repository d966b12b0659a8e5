"""A LoRA update kept as its two thin factors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """``ΔW = scaling · b @ a`` of one adapted linear layer; never formed."""

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
