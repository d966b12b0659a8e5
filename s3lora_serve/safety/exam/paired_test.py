"""An exact test of two shares on the same prompts: how much more often the one hits than the other.

Of n prompts, ``risen`` are hit by the first alone and ``fallen`` by the second alone. Tables of these two are
ordered by Tango's score statistic (Statistics in Medicine 17, 1998), and a p-value is the probability of a
table at least as extreme where it is greatest: over all shares of prompts on which the two may differ. The
statistic grows with ``risen`` and falls with ``fallen``, so that the greatest is on the edge of the
hypothesis (Hsueh, Liu and Chen, Biometrics 57, 2001).
"""

from __future__ import annotations

from functools import lru_cache
from math import lgamma, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

STEPS = 200  # nuisance shares that are tried, evenly where their spread is even: 3 to a spread at n = 400
ZOOMS, ZOOM_STEPS = 3, 8  # around the best of them
_SAME = 1e-9  # statistics that differ by less differ by rounding
_NIL = 1e-300  # a share of 0 that has a logarithm


def p_above(n: int, risen: int, fallen: int, margin: float) -> float:
    """p-value of "the first hits at most ``margin`` more often", small if it hits more. Margin in (-1, 1).

    ``p_above(n, fallen, risen, -margin)`` is that of "at least ``margin`` more often". Takes hundredths of a
    second for hundreds of prompts, seconds for ten thousand. Raises ValueError for counts that are none.
    """
    if min(risen, fallen) < 0 or risen + fallen > n or not -1 < margin < 1:
        raise ValueError(f"{risen} and {fallen} of {n} against {margin} cannot be tested")
    if n == 0:
        return 1.0
    least = _least_risen(n, float(score(n, risen, fallen, margin)) - _SAME, margin)

    def extreme(share: float) -> float:
        rises, falls = _likely_counts(n, share + margin), _likely_counts(n, share)
        likely = _likely(n, share + margin, share, rises[None, :], falls[:, None])
        return float(likely[rises[None, :] >= least[falls][:, None]].sum())

    return min(_greatest(extreme, _nuisance_shares(margin)), 1.0)


@lru_cache(maxsize=16)
def p_values_above(n: int, margin: float) -> Floats:
    """The p-value of every table of n prompts at once, at [risen, fallen], 1 where there is none: for power.

    As ``p_above`` without its last look around the greatest: less by a hundredth of itself at most. Takes
    room for n times n figures, and 0.5 s at n = 200. Not to be written to.
    """
    risen, fallen = _tables(n)
    scores = score(n, risen, fallen, margin)
    order = np.argsort(-scores, kind="stable")
    risen, fallen, ranked = risen[order], fallen[order], -scores[order]
    # Tables of one score are as extreme as each other: each gets the sum that ends with the last of them.
    last = np.searchsorted(ranked, ranked + _SAME, side="right") - 1
    greatest = np.zeros(len(ranked))
    for share in _nuisance_shares(margin):
        np.maximum(greatest, np.cumsum(_likely(n, share + margin, share, risen, fallen))[last], out=greatest)
    found = np.ones((n + 1, n + 1))
    found[risen, fallen] = np.minimum(greatest, 1.0)
    found.flags.writeable = False
    return found


def probabilities(n: int, rises: float, falls: float) -> Floats:
    """How likely every table of n independent prompts is, at [risen, fallen], by the share of either."""
    found = np.zeros((n + 1, n + 1))
    risen, fallen = _tables(n)
    found[risen, fallen] = _likely(n, rises, falls, risen, fallen)
    return found


def score(n: Any, risen: Any, fallen: Any, margin: float) -> Floats:
    """Tango's statistic, of numbers or arrays: how far above ``margin`` the rise is, in its own spread."""
    above = np.asarray(risen - fallen - n * margin, dtype=float)
    spread = np.sqrt(n * null_variance(n, risen, fallen, margin))
    flat = np.where(above == 0, 0.0, np.copysign(np.inf, above))  # where nothing differs that could
    found: Floats = np.divide(above, spread, out=np.broadcast_to(flat, above.shape).copy(), where=spread > 0)
    return found


def null_variance(n: Any, risen: Any, fallen: Any, margin: float) -> Any:
    """n times the variance of the difference of shares, at its likeliest if that is ``margin``."""
    a, b = 2 * n, -risen - fallen + (2 * n - risen + fallen) * margin
    c = -fallen * margin * (1 - margin)
    share = (np.sqrt(np.maximum(b * b - 4 * a * c, 0)) - b) / (2 * a)  # of prompts that fall
    return np.maximum(2 * share + margin * (1 - margin), 0.0)


def _least_risen(n: int, least_score: float, margin: float) -> Ints:
    """For each number of fallen, from how many risen on a table has at least this score; n + 1 for none."""
    fallen = np.arange(n + 1)
    low, high = np.zeros(n + 1, dtype=int), n - fallen + 1
    while (low < high).any():
        middle = np.minimum((low + high) // 2, n - fallen)
        reached = score(n, middle, fallen, margin) >= least_score
        low, high = np.where(reached | (low >= high), low, middle + 1), np.where(reached, middle, high)
        high = np.maximum(low, high)
    return np.where(low > n - fallen, n + 1, low)


def _likely(n: int, rises: float, falls: float, risen: Ints, fallen: Ints) -> Floats:
    """How likely each table is; 0 where both together are more than n."""
    logs = _log_factorials(n)
    neither = n - risen - fallen
    log: Floats = logs[n] - logs[risen] - logs[fallen] - logs[np.maximum(neither, 0)]
    log = log + risen * np.log(max(rises, _NIL)) + fallen * np.log(max(falls, _NIL))
    log += neither * np.log(max(1 - rises - falls, _NIL))
    return np.where(neither >= 0, np.exp(np.minimum(log, 0.0)), 0.0)


def _likely_counts(n: int, share: float) -> Ints:
    """All counts of n that are not out of the question: what is left out has a probability below 1e-11."""
    reach = 7 * sqrt(n * share * (1 - share)) + 12
    return np.arange(max(0, int(n * share - reach)), min(n, int(n * share + reach) + 1) + 1)


def _nuisance_shares(margin: float) -> list[float]:
    """Shares of prompts that may fall if ``margin`` more rise: from the least to the most."""
    least, most = max(0.0, -margin), (1 - margin) / 2
    angles = np.linspace(0.0, np.pi / 2, STEPS + 1)
    return [float(share) for share in least + (most - least) * np.sin(angles) ** 2]


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


def _tables(n: int) -> tuple[Ints, Ints]:
    """Every pair of risen and fallen that n prompts can have."""
    risen, both = np.triu_indices(n + 1)
    return risen, both - risen


@lru_cache(maxsize=16)
def _log_factorials(n: int) -> Floats:
    return np.array([lgamma(k + 1) for k in range(n + 1)])
