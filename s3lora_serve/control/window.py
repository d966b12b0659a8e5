"""What became of a deployment's last requests: the counts that rules compare."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Literal

Outcome = Literal["ok", "error", "invalid", "refused", "aborted"]
_OUTCOMES = frozenset({"ok", "error", "invalid", "refused", "aborted"})


class Window:
    """The last ``limit`` requests of one deployment. Never grows beyond them.

    Keep one for each deployment from its first request on: while it is new, the window holds its first
    requests; once another one is tried, it holds the last ones before that, and continues if both answer.
    An ``aborted`` request counts for nothing, nor does a ``refused`` one: the client left, or asked what no
    revision could answer, which says nothing of this one.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"limit {limit} must be 1 or more")
        self._last: deque[tuple[Outcome, float | None]] = deque(maxlen=limit)
        self.errors = 0
        self.invalid = 0
        self.seen = 0  # ever counted, also those that have left the window

    def add(self, outcome: Outcome, seconds: float | None) -> None:
        """Count one request that ended; ``seconds`` from its lease to its end, None if not measured."""
        if outcome not in _OUTCOMES:
            raise ValueError(f"outcome {outcome!r} is none of {', '.join(sorted(_OUTCOMES))}")
        if outcome in ("aborted", "refused"):
            return
        if len(self._last) == self._last.maxlen:
            self._count(self._last[0][0], -1)  # append drops it
        measured = seconds is not None and math.isfinite(seconds)
        self._last.append((outcome, seconds if measured else None))
        self._count(outcome, +1)
        self.seen += 1

    @property
    def requests(self) -> int:
        """Requests in the window."""
        return len(self._last)

    @property
    def answered(self) -> int:
        """Requests in the window that were answered, validly or not."""
        return len(self._last) - self.errors

    @property
    def latencies(self) -> tuple[float, ...]:
        """Seconds of the answered requests, oldest first. An error's are no measure: many fail at once."""
        return tuple(s for outcome, s in self._last if outcome != "error" and s is not None)

    @property
    def median_seconds(self) -> float | None:
        """Median of ``latencies``; None without any."""
        return statistics.median(found) if (found := self.latencies) else None

    def _count(self, outcome: Outcome, by: int) -> None:
        self.errors += by * (outcome == "error")
        self.invalid += by * (outcome == "invalid")
