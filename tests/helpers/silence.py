"""Sources that never answer: a gate that threads hang at, and a server that accepts and says nothing."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from s3lora_serve.storage.daemon_threads import abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator


class Silence:
    """Whatever thread comes here hangs until ``end``."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self.waiting = 0  # threads that came so far

    def __call__(self, *_: object, **__: object) -> None:
        self.waiting += 1
        self._end.wait(120)

    def end(self) -> None:
        """Let them go on, and wait until those that were left behind are gone."""
        self._end.set()
        until = time.monotonic() + 30
        while abandoned():
            assert time.monotonic() < until, "a thread that was left behind goes on"
            time.sleep(0.005)


@contextmanager
def silence() -> Iterator[Silence]:
    """A gate that is open at the end."""
    gate = Silence()
    try:
        yield gate
    finally:
        gate.end()


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of an HTTP server that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
