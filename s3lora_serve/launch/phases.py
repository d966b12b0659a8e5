"""From the signal to the end: first not ready, then no more connections, then no more time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from s3lora_serve.terminal.console import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.fleet.stop import Stop

log = logging.getLogger(__name__)

CUT_SECONDS = 3.0  # for requests that are cut: to leave the engine, and to tell their clients
LEAVE_SECONDS = 1.0  # for clients to read that


class Ending(Protocol):
    """What ends in phases."""

    @property
    def requests(self) -> int:
        """How many run."""

    def stop(self) -> None:
        """Accept no more connections, and leave once those that are open have ended."""

    def cancel(self) -> None:
        """Cancel the requests that still run."""

    def abort(self) -> None:
        """Close the connections that are still open."""


class Phases:
    """Ends listeners after the first signal; a second one waits for no request, but tells its client.

    For ``notice`` seconds requests are still accepted, so that load balancers can see that this server is not
    ready any more. ``grace`` seconds after the signal, notice included, what still runs is cut.
    """

    def __init__(self, listeners: Sequence[Ending], stop: Stop, notice: float, grace: float) -> None:
        self._listeners = listeners
        self._stop = stop
        self._notice, self._grace = notice, grace
        self._signals = asyncio.Event()

    def signal(self) -> None:
        """Begin to end, or go on to the last phase."""
        self._signals.set()

    def close(self) -> None:
        """Accept nothing more, and begin to end if that was not begun."""
        if not self._stop.announced:
            self._notice = 0.0
            self._signals.set()
        self._close()

    async def run(self) -> None:
        """Wait for a signal, then end the listeners; their own end may come first."""
        await self._signals.wait()
        self._signals.clear()
        say(f"stopping: running requests have {self._grace:g} s; a second signal does not wait")
        self._stop.announce()
        hurried = await self._signalled(self._notice)
        self._close()
        hurried = hurried or await self._signalled(self._grace - self._notice)
        if running := sum(listener.requests for listener in self._listeners):
            why = "a second signal came" if hurried else "their time is up"
            log.warning("requests that still run are cut (%d): %s", running, why)
        self._stop.cut_requests()
        await self._signalled(CUT_SECONDS)
        for listener in self._listeners:
            listener.cancel()
        await asyncio.sleep(LEAVE_SECONDS)
        for listener in self._listeners:
            listener.abort()

    def _close(self) -> None:
        self._stop.close()
        for listener in self._listeners:
            listener.stop()

    async def _signalled(self, seconds: float) -> bool:
        """Whether a signal came within the time."""
        try:
            async with asyncio.timeout(max(seconds, 0.0)):
                await self._signals.wait()
        except TimeoutError:
            return False
        self._signals.clear()
        return True
