"""An exact test of two shares on the same prompts: how much more often the one hits than the other.

Of n prompts, ``risen`` are hit by the first alone and ``fallen`` by the second alone. Tables of these two are
ordered by Tango's score statistic (Statistics in Medicine 17, 1998), and a p-value is the probability of a
table at least as extreme where it is greatest: over all shares of prompts on which the two may differ. The
statistic grows with ``risen`` and falls with ``fallen``, so that the greatest is on the edge of the
hypothesis (Hsueh, Liu and Chen, Biometrics 57, 2001).
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STEPS = 200  # nuisance shares that are tried, evenly where their spread is even: 2.8 to a spread at n = 400
ZOOMS, ZOOM_STEPS = 3, 8  # around the best of them
_SAME = 1e-9  # statistics that differ by less differ by rounding


def p_above(n: int, risen: int, fallen: int, margin: float) -> float:
    """p-value of "the first hits at most ``margin`` more often", small if it hits more. Margin in (-1, 1).

    ``p_above(n, fallen, risen, -margin)`` is that of "at least ``margin`` more often". Raises ValueError for
    counts that are none.
    """
    if min(risen, fallen) < 0 or risen + fallen > n or not -1 < margin < 1:
        raise ValueError(f"{risen} and {fallen} of {n} against {margin} cannot be tested")
    if n == 0:
        return 1.0
    tables = _tables(n)
    scores = tables.scores(margin)
    extreme = scores >= scores[tables.index(risen, fallen)] - _SAME
    few = bool(extreme.sum() * 2 <= len(scores))  # the smaller side is summed
    side = tables.side(extreme if few else ~extreme)

    def probability(share: float) -> float:
        total = float(side(share + margin, share).sum())
        return total if few else 1 - total

    return min(max(_greatest(probability, nuisance_shares(margin)), 0.0), 1.0)


def p_values_above(n: int, margin: float) -> Floats:
    """The p-value of every table of n prompts at once, at [risen, fallen], 1 where there is none: for power.

    As ``p_above`` without its last look around the greatest: less by a hundredth of itself at most.
    """
    import numpy as np

    tables = _tables(n)
    scores = tables.scores(margin)
    order = np.argsort(-scores, kind="stable")
    ranked = -scores[order]
    # Tables of one score are as extreme as each other: each gets the sum that ends with the last of them.
    last = np.searchsorted(ranked, ranked + _SAME, side="right") - 1
    greatest = np.zeros(len(scores))
    likely = tables.side(order)
    for share in nuisance_shares(margin):
        np.maximum(greatest, np.cumsum(likely(share + margin, share))[last], out=greatest)
    found = np.ones((n + 1, n + 1))
    found[tables.risen[order], tables.fallen[order]] = np.minimum(greatest, 1.0)
    return found


def probabilities(n: int, risen: float, fallen: float) -> Floats:
    """How likely every table of n independent prompts is, at [risen, fallen], by the share of either."""
    import numpy as np

    tables = _tables(n)
    found = np.zeros((n + 1, n + 1))
    found[tables.risen, tables.fallen] = tables.side(np.arange(len(tables.risen)))(risen, fallen)
    return found


def nuisance_shares(margin: float) -> list[float]:
    """Shares that only the second may hit, if the first hits ``margin`` more: from the least to the most."""
    import numpy as np

    least, most = max(0.0, -margin), (1 - margin) / 2
    angles = np.linspace(0.0, np.pi / 2, STEPS + 1)
    return [float(share) for share in least + (most - least) * np.sin(angles) ** 2]


def null_variance(n: Any, risen: Any, fallen: Any, margin: float) -> Any:
    """n times the variance of the difference of shares, at its likeliest if that is ``margin``."""
    import numpy as np

    a, b = 2 * n, -risen - fallen + (2 * n - risen + fallen) * margin
    c = -fallen * margin * (1 - margin)
    fallen_share = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)
    return np.maximum(2 * fallen_share + margin * (1 - margin), 0.0)


class _Tables:
    """All tables of n prompts, and how likely each is."""

    def __init__(self, n: int) -> None:
        import numpy as np

        self._n = n
        self.risen, self.fallen = np.triu_indices(n + 1)
        self.fallen = self.fallen - self.risen  # none, one, ... up to n - risen
        logs = np.array([lgamma(k + 1) for k in range(n + 1)])
        self._ways = logs[n] - logs[self.risen] - logs[self.fallen] - logs[n - self.risen - self.fallen]

    def index(self, risen: int, fallen: int) -> int:
        """Where a table stands."""
        return risen * (self._n + 1) - risen * (risen - 1) // 2 + fallen

    def scores(self, margin: float) -> Floats:
        """Tango's statistic of each; 0 where nothing differs and nothing should."""
        import numpy as np

        n = self._n
        above = self.risen - self.fallen - n * margin
        spread = np.sqrt(n * null_variance(n, self.risen, self.fallen, margin))
        found: Floats = np.divide(above, spread, out=np.zeros_like(above), where=spread > 0)
        found[(spread == 0) & (above != 0)] = np.inf
        return np.where((spread == 0) & (above < 0), -np.inf, found)

    def side(self, which: NDArray[Any]) -> Callable[[float, float], Floats]:
        """How likely each of these tables is, by the shares of prompts that rise and that fall."""
        import numpy as np

        ways, risen, fallen = self._ways[which], self.risen[which], self.fallen[which]
        neither = self._n - risen - fallen

        def likely(rises: float, falls: float) -> Floats:
            log = ways.copy()
            for count, share in ((risen, rises), (fallen, falls), (neither, 1 - rises - falls)):
                if share > 1e-15:
                    log += count * np.log(share)
                else:
                    log[count > 0] = -np.inf  # and 0 ** 0 is 1
            return np.exp(log)

        return likely


@lru_cache(maxsize=4)
def _tables(n: int) -> _Tables:
    return _Tables(n)


def _greatest(of: Callable[[float], float], shares: list[float]) -> float:
    """The greatest value on the shares, and between the best of them and its neighbours."""
    top = 0.0
    for _ in range(1 + ZOOMS):
        values = [of(share) for share in shares]
        best = max(range(len(values)), key=values.__getitem__)
        top = max(top, values[best])
        low, high = shares[max(best - 1, 0)], shares[min(best + 1, len(shares) - 1)]
        shares = [low + (high - low) * step / ZOOM_STEPS for step in range(ZOOM_STEPS + 1)]
    return top
