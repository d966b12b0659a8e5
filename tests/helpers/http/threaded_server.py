"""The real server over the fake engine, in a thread with its own loop: for clients that block."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fleet_factory import make_fleet
from live_server import listening

from s3lora_serve.config import PlansConfig, ServerConfig
from s3lora_serve.server.app import create_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleet_factory import Fleet


class ThreadedServer:
    """A server that was started; ``url`` has no /v1."""

    def __init__(self, fleet: Fleet, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.fleet = fleet
        self.url = url
        self._loop = loop

    def do(self, call: Callable[[], Any]) -> Any:
        """Call in the server's loop, where its objects may be touched."""

        async def inside() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(inside(), self._loop).result(60)

    def requests(self, outcome: str, planner: str = "p") -> int:
        """How many requests of the planner ended this way."""
        wanted = f's3lora_requests_total{{outcome="{outcome}",planner="{planner}"}} '
        lines = self.do(self.fleet.service.metrics.exposition).decode().splitlines()
        return next((int(float(x.removeprefix(wanted))) for x in lines if x.startswith(wanted)), 0)


@contextmanager
def threaded_server(
    root: Path,
    *names: str,
    api_key: str | None = None,
    settings: ServerConfig | None = None,
    plans: PlansConfig | None = None,
    tools: tuple[Any, ...] = (),
    prepare: Callable[[Fleet], object] = lambda _: None,
    **fleet_terms: Any,
) -> Iterator[ThreadedServer]:
    """Serve planners of these names; ``tools`` are each one's, and ``prepare`` is called before the start."""
    started: list[ThreadedServer] = []
    stop = threading.Event()

    async def serve() -> None:
        fleet = make_fleet(root, *names, tools=dict.fromkeys(names, tools), **fleet_terms)
        prepare(fleet)
        await fleet.start()
        async with listening(create_app(fleet.service, settings or ServerConfig(), api_key, plans)) as url:
            started.append(ThreadedServer(fleet, url, asyncio.get_running_loop()))
            while not stop.is_set():
                await asyncio.sleep(0.01)
        await fleet.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    try:
        wait_until(lambda: started or not thread.is_alive())
        yield started[0]
    finally:
        stop.set()
        thread.join(60)


def wait_until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Return once it is true. Raises TimeoutError when it does not become true."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.005)
