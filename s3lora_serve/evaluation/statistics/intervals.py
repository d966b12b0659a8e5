"""Bootstrap intervals over training seeds and prompts, and paired differences."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DRAWS, LEVEL = 2000, 0.95
DIGITS = 12  # after the point


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds that hold it with a run's level; of a difference, zero is no difference."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """-1 or 1 when all of it lies below or above zero, else 0: a difference that is not shown."""
        return (self.low > 0) - (self.high < 0)

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Bootstrap:
    """Weights for resampling, the same for everything that is compared: differences are paired by it.

    The first row of weights is uniform, so that the first "draw" of a figure is its plain mean.
    """

    draws: int = DRAWS
    seed: int = 0
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.level < 1:
            raise ValueError(f"{self.draws} draws, level {self.level}: at least 1, and between 0 and 1")

    def weights(self, count: int, kind: str) -> Floats:
        """How much each of ``count`` things weighs in each draw, [1 + draws, count]; rows add up to 1.

        Independent between kinds. One thing alone is not resampled.
        """
        return _weights(self.draws, self.seed, count, kind)

    def intervals(self, figures: Floats) -> list[Interval]:
        """The percentile interval of each row of ``figures``, [n, 1 + draws], means first."""
        tail = (1 - self.level) / 2
        exact = np.round(figures, DIGITS) + 0.0  # weights of 1/3 would make shares of 1.0000000000000002
        low, high = np.quantile(exact[:, 1:], [tail, 1 - tail], axis=1)
        means = exact[:, 0]
        # A skewed figure of few prompts may leave its own mean outside.
        bounds = zip(means, np.minimum(low, means), np.maximum(high, means), strict=True)
        return [Interval(float(mean), float(least), float(most)) for mean, least, most in bounds]

    def of_share(self, interval: Interval, prompts: int) -> Interval:
        """The interval of a share: exact where all prompts agree, since resampling equals shows no doubt.

        None of ``prompts`` agrees with any share p for which (1 − p)^prompts is at least (1 − level)/2.
        """
        if interval.high > interval.low or not prompts:
            return interval
        doubt = 1 - float(((1 - self.level) / 2) ** (1 / prompts))
        if interval.mean == 0:
            return Interval(0.0, 0.0, doubt)
        return Interval(1.0, 1 - doubt, 1.0) if interval.mean == 1 else interval


@lru_cache(maxsize=64)
def _weights(draws: int, seed: int, count: int, kind: str) -> Floats:
    uniform = np.full(count, 1 / count)
    random = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    weights = np.vstack([uniform, random.multinomial(count, uniform, size=draws) / count])
    weights.flags.writeable = False
    return weights
