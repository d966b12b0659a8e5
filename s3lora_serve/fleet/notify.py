"""Waiting until a condition holds, checked again after each change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Notifier:
    """One bell for leases, deployments and operations: each ring makes waiting tasks check again.

    Few tasks wait (a drain, a load that needs a slot), so a bell for each would gain nothing.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}  # in the order in which they began to wait
        self.rings = 0  # so far: to tell whether anything changed since a look

    def ring(self) -> None:
        """Wake all waiting tasks. Call it from the event loop, after the change."""
        self.rings += 1
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def until(self, true: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait until ``true()``, at most ``seconds`` (None: for ever); what it is in the end."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting[future] = None
                    try:
                        await future
                    finally:
                        self._waiting.pop(future, None)
        except TimeoutError:
            return true()
        return True
