"""Bodies of requests are read whole before anything sees them, within a size and a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from s3lora_serve.server.error_responses import error_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = 30.0
_STALL_SECONDS = 10.0
_LINGER_SECONDS = 2.0
# The rest of the body is still on its way; without this the server would read it as the next request.
_CLOSE = {"connection": "close"}


class BodyLimit:
    """ASGI middleware: reads the whole body, within a size and a time, before anything sees the request.

    Bodies that have not arrived yet share ``held_bytes`` of memory, so that half-sent ones take no more of it
    than the requests that may be answered at once.
    """

    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        *,
        seconds: float = _SECONDS,
        stall_seconds: float = _STALL_SECONDS,
        held_bytes: int | None = None,
        setting: str = "server.max_body_mib",
    ) -> None:
        """``setting`` is what raises the limit, if anything does; ``held_bytes`` by default 16 bodies."""
        self._app = app
        self._max = max_bytes
        self._setting = setting
        self._seconds, self._stall = seconds, stall_seconds
        self._most_held = held_bytes or 16 * max_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refuse = partial(_answer_unread, scope, receive, send)
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > self._max:
            await refuse(self._too_large())
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(receive)
        except TimeoutError:
            message = (
                f"the body did not arrive within {self._seconds:g} seconds, or nothing of it for"
                f" {self._stall:g}"
            )
            await refuse(error_response(408, message, code="body_timeout", headers=_CLOSE))
        except _Crowded:
            message = "unfinished bodies of other requests take all the memory that bodies may"
            headers = {**_CLOSE, "retry-after": "1"}
            await refuse(error_response(429, message, code="overloaded", headers=headers))
        else:
            if body is None:
                return  # the client left
            if len(body) > self._max:
                await refuse(self._too_large())
                return
            await self._app(scope, replay(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body, one byte or more over the limit if it is over it; None if the client left."""
        body = bytearray()
        try:
            while len(body) <= self._max:
                async with asyncio.timeout(self._stall):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                piece = message.get("body", b"")
                if self._held + len(piece) > self._most_held and message.get("more_body", False):
                    raise _Crowded
                self._held += len(piece)
                body += piece
                if not message.get("more_body", False):
                    break
        finally:
            self._held -= len(body)
        return bytes(body)

    def _too_large(self) -> ASGIApp:
        hint = f"; raise {self._setting}" if self._setting else ""
        message = f"the body is over the limit of {self._max} bytes{hint}"
        return error_response(413, message, code="body_too_large", headers=_CLOSE)


class _Crowded(Exception):
    """Bodies that have not arrived take all the memory that they may."""


async def _answer_unread(scope: Scope, receive: Receive, send: Send, response: ASGIApp) -> None:
    """Answer a request whose body has not been read, and read for a moment what the client still sends.

    A connection that is closed with unread bytes is reset, and the client may lose the answer with it.
    """

    async def not_the_end(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "more_body": True}
        await send(message)

    await response(scope, receive, not_the_end)
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    break
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body once more, then what the client does next: leave, in the end."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again
