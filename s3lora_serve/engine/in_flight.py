"""The requests in an engine: how many under each slot, their share of its time, who is told of their end."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.engine.request_facts import asked_for, collect_facts
from s3lora_serve.engine.shared_time import SharedTime

if TYPE_CHECKING:
    from s3lora_serve.engine.port import Observer, RequestFacts

log = logging.getLogger(__name__)


class InFlight:
    """Lets requests in with ``begin`` and tells the observers of each that ends, once."""

    def __init__(self) -> None:
        self.time = SharedTime()
        self.observers: list[Observer] = []
        self._running: Counter[str | None] = Counter()

    def running(self, slot: str | None) -> int:
        """Number of requests under this slot's name that have begun and not ended; None: the base model."""
        return self._running[slot]

    @property
    def count(self) -> int:
        """Number of all requests that have begun and not ended."""
        return self._running.total()

    def begin(self, slot: str | None, also: Observer | None = None) -> Stay:
        """Let a request in; ``also`` is told of this one only."""
        self._running[slot] += 1
        return Stay(self, slot, also)

    def leave(self, slot: str | None) -> None:
        """Count one request less."""
        self._running[slot] -= 1
        if not self._running[slot]:
            del self._running[slot]  # names come and go with each swap


class Stay:
    """One request in the engine, from its beginning to its ``end``."""

    def __init__(self, in_flight: InFlight, slot: str | None, also: Observer | None) -> None:
        self._in_flight = in_flight
        self._slot = slot
        self._also = also
        self._context = copy_context()
        self._purpose = asked_for()
        self._started = time.perf_counter()
        self._share = in_flight.time.begin()
        self._facts: RequestFacts | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._started

    def end(self, facts: RequestFacts) -> RequestFacts:
        """Stop counting the request and tell all observers; a second call changes nothing.

        Returns the facts with ``engine_seconds``, ``total_seconds`` and ``purpose`` filled in.
        """
        if self._facts is not None:
            return self._facts
        share = self._in_flight.time.end(self._share)
        self._in_flight.leave(self._slot)
        self._facts = replace(facts, engine_seconds=share, total_seconds=self.seconds, purpose=self._purpose)
        for observer in (*self._in_flight.observers, *((self._also,) if self._also else ())):
            try:
                observer(self._facts)
            except Exception:  # an observer's defect must not fail the request
                log.exception("observer failed on %s", self._facts)
        self._context.run(collect_facts, self._facts)
        return self._facts
