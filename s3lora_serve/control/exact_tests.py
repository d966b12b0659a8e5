"""Exact tails of the binomial and the hypergeometric distribution: how likely chance alone is."""

from __future__ import annotations

from math import exp, lgamma, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def binomial_tail(failures: int, trials: int, rate: float) -> float:
    """Probability of ``failures`` or more in ``trials`` when each fails with probability ``rate``."""
    if failures <= 0:
        return 1.0
    if failures > trials or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    if failures < trials * rate:  # the first term could round to 0 although the whole is near 1
        return 1 - binomial_tail(trials - failures + 1, trials, 1 - rate)
    first = exp(_log_choose(trials, failures) + failures * log(rate) + (trials - failures) * log(1 - rate))
    odds = rate / (1 - rate)
    return _total(first, failures, trials, lambda k: (trials - k) / (k + 1) * odds)


def fisher_tail(failures: int, trials: int, others_failures: int, others_trials: int) -> float:
    """Probability that so many or more of all failures fall to these trials, if it is chance where they fall.

    Fisher's exact test of two proportions, one-sided. It holds whatever the common rate is, and for any
    counts, which the normal approximation does not.
    """
    both = failures + others_failures
    most = min(both, trials)
    least = max(0, both - others_trials)
    if failures <= least:
        return 1.0
    if failures > most:
        return 0.0
    if failures < both * trials / (trials + others_trials):
        passed, passes = trials - failures + 1, trials + others_trials - both
        return 1 - fisher_tail(passed, trials, passes - passed, others_trials)
    first = exp(
        _log_choose(trials, failures)
        + _log_choose(others_trials, both - failures)
        - _log_choose(trials + others_trials, both)
    )
    return _total(
        first,
        failures,
        most,
        lambda k: (trials - k) / (k + 1) * (both - k) / (others_trials - both + k + 1),
    )


def _total(first: float, start: int, end: int, ratio: Callable[[int], float]) -> float:
    """Sum of the terms from ``start`` to ``end``; ``ratio(k)`` is term k+1 over term k."""
    total = term = first
    for k in range(start, end):
        step = ratio(k)
        term *= step
        total += term
        if step < 1 and term < 1e-17 * total:  # both distributions have one peak: it only falls from here
            break
    return min(total, 1.0)


def _log_choose(n: int, k: int) -> float:
    # Not comb(): for windows of thousands of requests its integers have thousands of digits.
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
