"""A fleet over the fake engine behind a real socket, in a thread of its own: for clients that block."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import uvicorn
from fleet import make_fleet

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleet import Fleet

    from planners import ToolSpec


@dataclass(frozen=True)
class Served:
    """A server that answers at ``url`` (without /v1), and the fleet behind it."""

    url: str
    fleet: Fleet


@contextmanager
def served(
    root: Path, *names: str, key: str | None = None, tools: tuple[ToolSpec, ...] = (), **fleet: object
) -> Iterator[Served]:
    """Serve planners of these names on a free port of this machine; ``fleet`` goes to ``make_fleet``.

    ``tools`` are each planner's own.
    """
    ready, made = threading.Event(), []
    stop: list[object] = []

    async def serve() -> None:
        behind = make_fleet(root, *names, **fleet)
        behind.desired.update({name: replace(want, tools=tools) for name, want in behind.desired.items()})
        await behind.start()
        app = create_app(behind.service, ServerConfig(), key)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            server = uvicorn.Server(uvicorn.Config(app, log_config=None))
            stop.append(server)
            running = asyncio.ensure_future(server.serve(sockets=[listening]))
            while not server.started:
                await asyncio.sleep(0.005)
            made.append(Served(f"http://127.0.0.1:{listening.getsockname()[1]}", behind))
            ready.set()
            await running
        await behind.close()

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        assert made, "the server did not start; its traceback is above"
        yield made[0]
    finally:
        for server in stop:
            server.should_exit = True
        thread.join()
