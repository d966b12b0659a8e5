"""The two listeners of one process: one for clients, one for operators"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from s3lora_serve.errors import StateError
from s3lora_serve.launch.http_protocol import BoundedProtocol, HttpLimits

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp

    from s3lora_serve.launch.phases import Phases

# Idle connections stay open longer than clients' pools keep them (the openai client: 5 s; proxies: 60 s), so
# that it is the client who closes: a request on a connection that is being closed fails.
KEEP_ALIVE_SECONDS = 75


class Server(uvicorn.Server):
    """uvicorn with our signal handling, and a callback once it listens."""

    def __init__(self, app: ASGIApp, listening: Callable[[], None], limits: HttpLimits | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=partial(BoundedProtocol, limits=limits or HttpLimits()),  # type: ignore[arg-type]
                ws="none",
                log_config=None,
                access_log=False,  # server/access/access_log.py has one that says who answered
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._listening()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises each signal again when it has stopped, which would cut the engine's shutdown short.
        yield

    def stop(self) -> None:
        """Accept no more connections, and leave once those that are open have ended."""
        self.should_exit = True

    @property
    def requests(self) -> int:
        """How many run."""
        return len(self.server_state.tasks)

    def cancel(self) -> None:
        """Cancel the requests that still run."""
        for task in tuple(self.server_state.tasks):
            task.cancel()

    def abort(self) -> None:
        """Close the connections that are still open: their clients do not read what they were sent."""
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()


async def serve_both(
    clients: tuple[Server, socket.socket],
    operators: tuple[Server, socket.socket],
    phases: Phases,
) -> None:
    """Serve until SIGINT or SIGTERM comes, or one of them fails; then end in ``phases``."""

    async def run(server: Server, listening: socket.socket) -> None:
        try:
            await server.serve(sockets=[listening])
        finally:
            phases.close()  # half a server is none

    with _handled({signal.SIGINT: phases.signal, signal.SIGTERM: phases.signal}):
        ending = asyncio.create_task(phases.run())
        try:
            await asyncio.gather(run(*clients), run(*operators))
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


@contextmanager
def _handled(handlers: dict[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def address(listening: socket.socket) -> str:
    """Where the socket can be asked from this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_token() -> str:
    """A token for operators, new at each start."""
    return secrets.token_urlsafe(32)


@contextmanager
def announced(path: Path, url: str, token: str, clients: str) -> Iterator[None]:
    """Tell this user's commands where orders go and where clients ask, for as long as the server runs.

    Raises StateError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # whatever it was: what we write must be ours alone
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump({"url": url, "token": token, "pid": os.getpid(), "clients": clients}, file)
    except OSError as error:
        raise StateError(
            f"cannot write {path}: {error.strerror or error}", hint="set state.path to a writable folder"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
