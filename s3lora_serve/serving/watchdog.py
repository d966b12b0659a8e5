"""The rule by which an engine that has not died counts as hung. Pure: it knows the time from its caller."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3lora_serve.engine.signs_of_life import EngineProgress

STEPS = 10.0  # the limit is at least so many times the slowest step since the start
PROBE_SECONDS = 10.0  # idle time after which the engine is asked for a sign of life
LATE_SECONDS = 2.0  # of the time between two looks, more than this does not count: nobody was looking


@dataclass(frozen=True)
class Look:
    """What one look came to."""

    hung: str = ""  # why the engine counts as hung; empty: it does not
    probe: bool = False  # it is idle, and a question is due whose answer shows that it lives


class Watchdog:
    """Looks at one engine's progress, again and again, and says when it hangs.

    It hangs when something is asked of it (requests, or a probe) and it gives no sign of life for longer than
    the limit: ``seconds``, or ten times its slowest step so far if that is longer. While it starts,
    ``load_seconds`` more; while an adapter goes in or out, as much more until one has, and from then on ten
    times what the slowest took, at least ``seconds``; while a grammar may be compiled, once the limit more.

    Time counts only as far as the looks were regular. If this process did not run either, as on a machine
    that was suspended, the gap says nothing of the engine.
    """

    def __init__(self, seconds: float, load_seconds: float) -> None:
        self._seconds = seconds
        self._load_seconds = load_seconds
        self._looked: float | None = None
        self._signs: int | None = None
        self._asked = False  # at the last look
        self._quiet = 0.0  # seconds since the last sign, of those in which something was asked
        self._idle = 0.0
        self._excused = False  # whether anything held it up since the last sign: then it was no slow step
        self._slowest = 0.0

    def look(
        self, now: float, progress: EngineProgress, *, starting: bool = False, probing: bool = False
    ) -> Look:
        """Judge the engine at ``now``. ``probing``: a probe waits for its answer."""
        passed = 0.0 if self._looked is None else min(now - self._looked, LATE_SECONDS)
        self._looked = now
        held = "start" if starting else progress.held
        # Not set back when the requests leave: clients that give up are no sign of life.
        self._quiet += passed if self._asked else 0.0
        self._asked = bool(progress.running or held or probing)
        if progress.signs != self._signs:
            if self._signs is not None and not self._excused:
                self._slowest = max(self._slowest, self._quiet)
            self._signs, self._quiet, self._idle, self._excused = progress.signs, 0.0, 0.0, bool(held)
            return Look()
        self._excused = self._excused or bool(held)
        if not self._asked:
            self._idle += passed
            if self._idle < PROBE_SECONDS:
                return Look()
            self._idle = 0.0
            return Look(probe=True)
        limit = self._limit(held, progress.slowest_load)
        if self._quiet <= limit:
            return Look()
        requests = f"{progress.running} request{'' if progress.running == 1 else 's'} in it"
        asked = requests if progress.running else f"{held} under way" if held else "a probe unanswered"
        slow = STEPS * self._slowest > self._seconds
        by = "ten times its slowest step" if slow else "engine.watchdog_seconds sets it"
        return Look(
            hung=f"it hangs: no step for {self._quiet:.0f} s, {asked}; the limit is {limit:.0f} s ({by})"
        )

    def _limit(self, held: str, slowest_load: float | None) -> float:
        limit = max(self._seconds, STEPS * self._slowest)
        if held in ("start", "load"):
            known = slowest_load if held == "load" else None
            more = self._load_seconds
            return limit + (more if known is None else min(max(self._seconds, STEPS * known), more))
        return 2 * limit if held else limit
