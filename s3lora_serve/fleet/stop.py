"""How far the server has come in stopping, as requests meet it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.notify import Notifier


class Stop:
    """Three steps, each for good: announced, no more connections, no more time."""

    def __init__(self, leases: LeaseBook, notifier: Notifier) -> None:
        self._leases = leases
        self._notifier = notifier
        self.announced = False  # it is not ready any more; requests are answered all the same
        self.closing = asyncio.Event()  # its listeners close: nobody waits for changes any more

    @property
    def cut(self) -> asyncio.Event:
        """Set once requests that still run are to end at once, with ShuttingDown."""
        return self._leases.stopped

    def announce(self) -> None:
        """Say to probes that this server will stop."""
        self.announced = True

    def close(self) -> None:
        """Let streams that follow changes end, and what waits for one: the listeners are about to close."""
        self.announced = True
        self.closing.set()
        self._notifier.ring()

    def cut_requests(self) -> None:
        """End every request that still runs or waits; each gets ShuttingDown."""
        self.close()
        self._leases.stop()
