"""The engine's time, shared equally between the requests that are in it at each moment."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class SharedTime:
    """While n requests are in the engine, each is given 1/n of the time that passes. Seconds.

    The shares of all requests add up to the time in which the engine had any, so they can be charged for.
    A virtual clock that runs at the rate 1/n makes a share the difference of two readings: ``begin`` and
    ``end`` take the same time however many requests there are. (Virtual time of processor sharing: Parekh and
    Gallager, 1993.)
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._requests = 0
        self._moved = 0.0  # when the virtual clock was last set
        self._virtual = 0.0

    def begin(self) -> float:
        """Let a request in. Returns what ``end`` wants to know of it."""
        self._move()
        self._requests += 1
        return self._virtual

    def end(self, begun: float) -> float:
        """Let a request out. Returns its share of the time since ``begin`` returned ``begun``."""
        self._move()
        self._requests -= 1
        return self._virtual - begun

    def _move(self) -> None:
        now = self._now()
        if self._requests:
            self._virtual += (now - self._moved) / self._requests
        self._moved = now
