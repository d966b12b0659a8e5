"""What was found about the same tokens a short while ago, and who waits for what is being asked."""

from __future__ import annotations

import asyncio
import hashlib
import time
from array import array
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from s3lora_serve.storage.canonical_json import canonical_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

T = TypeVar("T")
_Way = tuple[str, int]  # key and priority
MOST = 10_000  # a few megabytes


def verdict_key(token_ids: Sequence[int], caller: str, *conditions: object) -> str:
    """sha256 of all that a verdict hangs on. No text is in it, and no other caller's question has it.

    ``conditions`` are JSON: engine, base model, frame, sampling.
    """
    told = hashlib.sha256(canonical_bytes([caller, *conditions]))
    told.update(b"\0" + array("q", token_ids).tobytes())
    return told.hexdigest()


@dataclass
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class VerdictCache(Generic[T]):
    """Remembers at most ``most`` findings for ``seconds``, the ones used last; what is raised, never.

    Who asks for the same at the same time and in the same way waits for one asking: it ends with the last
    who waits.
    """

    def __init__(self, seconds: float, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        self._found: OrderedDict[str, tuple[float, T]] = OrderedDict()
        self._flights: dict[_Way, _Flight[T]] = {}

    def remembered(self, key: str) -> T | None:
        """What was found, or None."""
        entry = self._found.get(key)
        if entry is None:
            return None
        if self._clock() - entry[0] >= self._seconds:
            del self._found[key]
            return None
        self._found.move_to_end(key)
        return entry[1]

    async def once(
        self, key: str, ask: Callable[[], Coroutine[Any, Any, T]], priority: int = 0
    ) -> tuple[T, bool]:
        """What was found, and whether another had asked. Raises what ``ask`` does.

        Nobody waits for what was asked with another ``priority``: that may take far longer. Cancelled as the
        last who waits, it returns once the asking has ended, too.
        """
        if (found := self.remembered(key)) is not None:
            return found, True
        way = key, priority
        flight = self._flights.get(way)
        first = flight is None
        if flight is None:
            flight = self._flights[way] = _Flight(asyncio.create_task(ask(), name="guard-question"))
            flight.task.add_done_callback(lambda task: self._ended(way, task))
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task), not first
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(way, flight.task)  # who comes now asks anew
                flight.task.cancel()
                await asyncio.gather(flight.task, return_exceptions=True)

    def _ended(self, way: _Way, task: asyncio.Task[T]) -> None:
        self._forget(way, task)
        if task.cancelled() or task.exception() is not None or not self._seconds:
            return
        self._found[way[0]] = (self._clock(), task.result())
        self._found.move_to_end(way[0])
        while len(self._found) > self._most:
            self._found.popitem(last=False)

    def _forget(self, way: _Way, task: asyncio.Task[T]) -> None:
        flight = self._flights.get(way)
        if flight is not None and flight.task is task:
            del self._flights[way]
