"""A share of things that were counted, with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

_Z = 1.959963984540054  # 95 %


@dataclass(frozen=True)
class Share:
    """``hits`` of ``total``, which is at least one."""

    hits: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.hits <= self.total or not self.total:
            raise ValueError(f"{self.hits} of {self.total} is no share")

    @property
    def value(self) -> float:
        """Between 0 and 1."""
        return self.hits / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval at 95 %, which is right at 0 and 1 and for few things, too."""
        n, p = self.total, self.value
        middle, spread = p + _Z * _Z / (2 * n), _Z * sqrt(p * (1 - p) / n + _Z * _Z / (4 * n * n))
        low, high = ((middle + side * spread) / (1 + _Z * _Z / n) for side in (-1, 1))
        return (0.0 if self.hits == 0 else low, 1.0 if self.hits == n else high)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{100 * self.value:.0f} % ({self.hits} of {self.total}; {100 * low:.0f} to {100 * high:.0f} %)"
        )
