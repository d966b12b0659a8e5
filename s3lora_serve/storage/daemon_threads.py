"""Blocking calls on daemon threads: a caller can give one up, and nothing waits for it at the exit.

A source may never answer, and a thread that waits for it cannot be ended. So such a call has a thread of its
own that its caller may leave behind. ``asyncio.to_thread`` and ``concurrent.futures`` will not do: their
threads are shared with calls that must not wait, and are joined when the process ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_T = TypeVar("_T")

log = logging.getLogger(__name__)

_here = threading.local()  # .call: the call that this thread carries out
_given_up: set[DaemonCall[Any]] = set()  # those that still run
_guard = threading.Lock()


class DaemonCall(Generic[_T]):
    """One call on a daemon thread of its own, begun when it is made. May be used from any thread."""

    def __init__(self, name: str, call: Callable[[], _T], ended: Callable[[], None] = lambda: None) -> None:
        """``ended`` is called in the thread once the call has ended."""
        self._call, self._ended = call, ended
        self._over, self._left = threading.Event(), 0.0
        self._value: _T | None = None
        self._error: BaseException | None = None
        self.given_up = False
        self._thread = threading.Thread(
            target=contextvars.copy_context().run, args=(self._run,), name=f"s3lora-{name}", daemon=True
        )
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after at most this time."""
        return self._over.wait(seconds)

    def result(self) -> _T:
        """What it returned once it has ended; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def give_up(self) -> None:
        """Wait for it no more. It goes on until it asks ``given_up()`` or ends, and is counted until then."""
        with _guard:
            if self._over.is_set():
                return
            self.given_up, self._left = True, time.monotonic()
            _given_up.add(self)

    def _run(self) -> None:
        _here.call = self
        try:
            self._value = self._call()
        except BaseException as error:  # the caller raises it
            self._error = error
        with _guard:
            self._over.set()
            _given_up.discard(self)
        if self.given_up:
            seconds = time.monotonic() - self._left
            log.info("thread %s has ended, %.0f s after it was given up", self._thread.name, seconds)
        else:
            self._ended()


def given_up() -> bool:
    """Whether the caller of what runs in this thread waits for it no more."""
    call: DaemonCall[Any] | None = getattr(_here, "call", None)
    return call is not None and call.given_up


def abandoned() -> int:
    """Calls that were given up and still run: each is a thread that waits for something outside."""
    return len(_given_up)


class DaemonThreads:
    """At most so many calls at a time, each on its own daemon thread; further ones wait, first come first.

    The place of a call whose caller is cancelled is free at once, although its thread may go on.
    """

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._places = asyncio.Semaphore(most)
        self._waiting = 0

    async def run(
        self,
        call: Callable[..., _T],
        /,
        *args: object,
        queued: Callable[[int], None] | None = None,
        **named: Any,
    ) -> _T:
        """What ``call`` returns. ``queued`` is told how many calls are before it, if it has to wait."""
        if queued is not None and self._places.locked():
            queued(self._most + self._waiting)
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._on_thread(lambda: call(*args, **named))
        finally:
            self._places.release()

    async def _on_thread(self, call: Callable[[], _T]) -> _T:
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def ended() -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(over.set)

        running = DaemonCall(self._name, call, ended)
        try:
            await over.wait()
        except asyncio.CancelledError:
            running.give_up()
            raise
        return running.result()
