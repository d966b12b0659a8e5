"""Figures as they stand in Markdown: shares in per cent, differences in points, each with its interval."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from s3lora_serve.evaluation.statistics.intervals import Interval


def percent(interval: Interval) -> str:
    """The mean as per cent, without its interval."""
    return f"{100 * interval.mean:.0f}"


def share(interval: Interval | None) -> str:
    """A share as per cent with its interval; empty for None."""
    if interval is None:
        return ""
    return f"{100 * interval.mean:.0f} [{100 * interval.low:.0f}, {100 * interval.high:.0f}]"


def in_points(interval: Interval) -> str:
    """A difference of shares in points with its interval."""
    return f"{100 * interval.mean:+.0f} [{100 * interval.low:+.0f}, {100 * interval.high:+.0f}]".replace(
        "-", "−"
    )


def plain(interval: Interval) -> str:
    """A difference with its interval, three digits."""
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]".replace("-", "−")


def area(interval: Interval) -> str:
    """An area under a curve with its interval."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def wilson(share: float, n: int) -> str:
    """A share of ``n`` as per cent with its Wilson interval at 95 %."""
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    room = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return f"{100 * share:.0f} [{100 * (middle - room):.0f}, {100 * (middle + room):.0f}]"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; every line ends."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
