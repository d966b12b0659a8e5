"""One request on the engine's application: it ends by itself, or is ended and has left the engine."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from s3lora_serve.server.middleware import REQUEST_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.types import ASGIApp, Message, Scope, Send

log = logging.getLogger(__name__)

# Headers that reach the engine's application. Others could steer it (a data-parallel rank, a SageMaker
# adapter id) or hold the API key.
_HEADERS = frozenset({b"content-type", b"accept", b"user-agent", b"traceparent", b"tracestate"})
_KEPT = ("type", "http_version", "method", "scheme", "path", "raw_path", "client", "server")
_LEAVE_SECONDS = 1.0  # for the application to notice that its client has left


async def call(
    app: ASGIApp,
    scope: Scope,
    body: bytes,
    send: Send,
    stops: Sequence[asyncio.Event],
    leave: asyncio.Event | None = None,
) -> asyncio.Event | None:
    """Let the application answer; None once it has, or the event that was set first.

    By hand, since httpx.ASGITransport hands out no piece of an answer before its last one.

    After an event or a cancellation the application is told that its client has left, and nothing more of it
    reaches ``send``; ``leave`` is set then, for a ``send`` that waits for something else.

    Cancelling it would not do: vLLM answers a request that is not streamed in a task of its
    own, which ends for a client that left and not with the task that waits for it
    (vllm/entrypoints/serve/utils/api_utils.py, with_cancellation).
    """
    leave = leave or asyncio.Event()
    unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if unread:
            return unread.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def pass_on(message: Message) -> None:
        if not leave.is_set():
            await send(message)

    working = asyncio.ensure_future(_run(app, _inner(scope), receive, pass_on))
    waiting = {asyncio.ensure_future(stop.wait()): stop for stop in stops}
    try:
        await asyncio.wait((working, *waiting), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return None
        return next(stop for task, stop in waiting.items() if task.done())
    finally:
        for task in waiting:
            task.cancel()
        if not working.done():
            leave.set()
            await asyncio.wait((working,), timeout=_LEAVE_SECONDS)
            working.cancel()  # one that did not leave
        await asyncio.gather(working, *waiting, return_exceptions=True)


@contextmanager
def alarm(seconds: float) -> Iterator[asyncio.Event]:
    """An event for ``stops`` that is set after so many seconds, unless the block ends first."""
    rung = asyncio.Event()
    timer = asyncio.get_running_loop().call_later(seconds, rung.set)
    try:
        yield rung
    finally:
        timer.cancel()


async def _run(app: ASGIApp, scope: Scope, receive: object, send: Send) -> None:
    await app(scope, receive, send)  # type: ignore[arg-type]  # as a coroutine, which an ASGI app need not be


def _inner(scope: Scope) -> Scope:
    """A fresh scope for the engine's application: path and method, few headers, nothing of our routing."""
    headers = [(name, value) for name, value in scope["headers"] if name in _HEADERS]
    # vLLM puts it into its own id.
    headers.append((REQUEST_ID.encode(), scope["state"]["request_id"].encode()))
    return {
        **{key: scope[key] for key in _KEPT if key in scope},
        # Up to 2.3 applications wait for http.disconnect; from 2.4 on they may wait for send to fail.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "headers": headers,
        "query_string": b"",
        "root_path": "",
        "state": {},
    }
