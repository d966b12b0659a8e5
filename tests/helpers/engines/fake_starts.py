"""One fake engine after the other, for what restarts its engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from faulty_engine import FaultyEngine, Gate

from s3lora_serve.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable


class FakeStarts:
    """``await starts()`` makes the next engine with ``make``; ``engines`` are all that were made."""

    def __init__(self, make: Callable[[], FaultyEngine] = FaultyEngine) -> None:
        self.engines: list[FaultyEngine] = []
        self.calls = 0
        self._make = make
        self._failures: list[Exception] = []
        self._gate: Gate | None = None

    async def __call__(self) -> FaultyEngine:
        """Start an engine. Raises what ``fail_next`` ordered."""
        self.calls += 1
        await asyncio.sleep(0)  # a real start lets others run, too
        if self._gate is not None:
            await self._gate.wait()
        if self._failures:
            raise self._failures.pop(0)
        engine = self._make()
        self.engines.append(engine)
        return engine

    @property
    def current(self) -> FaultyEngine:
        """The engine that was made last."""
        return self.engines[-1]

    @property
    def violations(self) -> list[str]:
        """Those of all engines."""
        return [violation for engine in self.engines for violation in engine.violations]

    def fail_next(self, times: int = 1, error: Exception | None = None) -> None:
        """Let so many of the next starts fail."""
        self._failures += [error or EngineError("vLLM did not start: injected fault")] * times

    def hold(self) -> Gate:
        """Let starts hang from now on, until the gate is opened."""
        self._gate = Gate()
        return self._gate
