"""What is done to the engine: killed, or stopped so that it hangs. Each fault is an outage with its times."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil
    from soak_server import SoakServer

KINDS = ("killed", "EngineCore stopped", "killed", "Worker stopped")
LIMIT = 240.0  # seconds in which a hang must be noticed: the watchdog waits at least 60
BACK = 420.0  # seconds in which the engine must be back


@dataclass
class Outage:
    """From the fault until all planners serve again; ``ended`` 0: they did not."""

    kind: str
    began: float
    noticed: float = 0.0  # /readyz was not 200 any more
    ended: float = 0.0
    note: str = ""


class Faults:
    """One fault after the other, ``gap`` seconds after the last one has healed, none after ``last``."""

    def __init__(self, server: SoakServer, gap: float, last: float) -> None:
        """``last``: of the monotonic clock."""
        self.outages: list[Outage] = []
        self._server = server
        self._gap, self._last = gap, last

    async def run(self) -> None:
        """Until there is no time for another fault."""
        for kind in itertools.cycle(KINDS):
            await asyncio.sleep(self._gap)
            if time.monotonic() > self._last:
                return
            await self._one(kind)

    async def _one(self, kind: str) -> None:
        name = kind.partition(" ")[0]
        found = self._server.engine_processes("EngineCore" if name == "killed" else name)
        outage = Outage(kind, time.time())
        self.outages.append(outage)
        if not found:
            outage.noticed = outage.ended = outage.began
            outage.note = f"not tried: no process calls itself {name}"
            return
        if name == "killed":
            found[0].kill()
        else:
            _stop(found[0])
        if await self._ready_is(False, LIMIT):
            outage.noticed = time.time()
        else:
            outage.note = f"not noticed within {LIMIT:g} s"
        if not outage.noticed and found[0].is_running():
            os.kill(found[0].pid, signal.SIGCONT)  # or the rest of the soak would wait for it
        if await self._ready_is(True, BACK):
            outage.ended = time.time()
        else:
            outage.note = f"{outage.note} not back within {BACK:g} s".strip()

    async def _ready_is(self, wanted: bool, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if await asyncio.to_thread(self._server.process.ready) is wanted:
                return True
            await asyncio.sleep(0.2)
        return False


def _stop(process: psutil.Process) -> None:
    process.suspend()
