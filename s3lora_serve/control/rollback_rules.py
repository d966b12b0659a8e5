"""When a new revision is worse than the old one beyond chance: the rules of automatic rollback.

Why these tests, at this level, and how often they are wrong: docs/adr/0008-automatic-rollback-rules.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from s3lora_serve.control.exact_tests import binomial_tail, fisher_tail
from s3lora_serve.control.window import Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.config import RollbackConfig

__all__ = ["LEVEL", "SOME_LEVEL", "Failed", "RollbackVerdict", "Window", "chance", "verdict"]

# Of each look. There is a look after every request, so that one of them gives a false alarm is more likely:
# in at most 0.6 % of rollouts where the old revision's 200 last requests are known. See the ADR.
LEVEL = 0.001
SOME_LEVEL = 0.02

# Successes that an old revision with few requests is given on top, so that one failure of one request does
# not make every rate of the new one look no worse.
_GIVEN = 2


@dataclass(frozen=True)
class RollbackVerdict:
    """``wait``: too early to say. ``good``: all were judged and no rule was broken. ``bad``: roll back."""

    decision: Literal["wait", "good", "bad"]
    reason: str  # for people
    rule: Literal["", "error_rate", "invalid_rate", "latency_ratio"] = ""  # that was broken
    figures: Mapping[str, float | None] = field(default_factory=dict)  # None: not measured


def verdict(new: Window, old: Window, rules: RollbackConfig) -> RollbackVerdict:
    """Judge the new revision by its requests so far against the old one's last ones.

    Ask after every request of the new one until it is not ``wait``. Asking less often only makes false alarms
    rarer; going on to ask after ``good`` makes them more likely. Both windows need a limit of at least
    ``rules.requests``. Pure: no clock, nothing remembered.
    """
    figures = _figures(new, old)
    broken = (
        _rate("error_rate", Failed(new.errors, new.requests), Failed(old.errors, old.requests), rules),
        _rate("invalid_rate", Failed(new.invalid, new.answered), Failed(old.invalid, old.answered), rules),
        _latency(new, old, rules),
    )
    for found in broken:
        if found is not None:
            rule, reason = found
            return RollbackVerdict("bad", reason, rule, figures)
    if new.seen >= rules.requests:
        return RollbackVerdict("good", f"{rules.requests} requests and no rule broken", "", figures)
    return RollbackVerdict("wait", f"{new.seen} of {rules.requests} requests so far", "", figures)


class Failed(NamedTuple):
    """So many of so many."""

    failed: int
    of: int


_Broken = tuple[Literal["error_rate", "invalid_rate", "latency_ratio"], str]
_WORDS = {"error_rate": "requests failed", "invalid_rate": "answers were no valid plan"}


def chance(new: Failed, old: Failed, margin: float, min_requests: int) -> float | None:
    """How likely failures like the new revision's are without damage; None if its share is within the margin.

    Damage is taken for proved in either of two ways, and this is the stronger one's probability: that chance
    alone puts so many of all failures on the new one; or that a revision which is only just within the margin
    fails so often. The second asks for some of the first too, at ``SOME_LEVEL``, unless the old one has fewer
    than ``min_requests``, so that there is nothing to compare with.
    """
    known = old.of >= min_requests
    before = old.failed / (old.of if known else old.of + _GIVEN)
    if new.of < min_requests or new.failed / new.of <= before + margin:
        return None
    over_margin = binomial_tail(new.failed, new.of, before + margin)
    if not known:
        return over_margin
    over_old = fisher_tail(new.failed, new.of, old.failed, old.of)
    return min(over_old, over_margin) if over_old <= SOME_LEVEL else over_old


def _rate(
    rule: Literal["error_rate", "invalid_rate"], new: Failed, old: Failed, rules: RollbackConfig
) -> _Broken | None:
    margin: float | None = getattr(rules, rule)
    if margin is None or (found := chance(new, old, margin, rules.min_requests)) is None or found > LEVEL:
        return None
    compared = f"{old.failed} of {old.of} with the old one"
    if old.of < rules.min_requests:
        compared += f", fewer than {rules.min_requests} to compare with"
    return rule, (
        f"{new.failed} of {new.of} {_WORDS[rule]}, {compared}: over the margin of {margin:.1%},"
        f" by chance with probability {_shown(found)}"
    )


def _latency(new: Window, old: Window, rules: RollbackConfig) -> _Broken | None:
    ratio = rules.latency_ratio
    if ratio is None:
        return None
    now, before = new.latencies, old.latencies
    if min(len(now), len(before)) < rules.min_requests:
        return None
    new_median, old_median = new.median_seconds, old.median_seconds
    if new_median is None or old_median is None or new_median <= ratio * old_median:
        return None
    # Sign test: if the true median were at the limit, each request would be over it with probability 1/2.
    over = sum(seconds > ratio * old_median for seconds in now)
    if (found := binomial_tail(over, len(now), 0.5)) > LEVEL:
        return None
    return "latency_ratio", (
        f"median of {new_median:.3g} s over {len(now)} requests, {old_median:.3g} s over {len(before)} with"
        f" the old one: over {ratio:g} times as long, by chance with probability {_shown(found)}"
    )


def _shown(chance: float) -> str:
    return f"{chance:.1g}" if chance >= 1e-6 else "under 1e-06"


def _figures(new: Window, old: Window) -> dict[str, float | None]:
    def share(count: int, of: int) -> float | None:
        return count / of if of else None

    return {
        "requests": new.requests,
        "old_requests": old.requests,
        "error_rate": share(new.errors, new.requests),
        "old_error_rate": share(old.errors, old.requests),
        "invalid_rate": share(new.invalid, new.answered),
        "old_invalid_rate": share(old.invalid, old.answered),
        "median_seconds": new.median_seconds,
        "old_median_seconds": old.median_seconds,
    }
