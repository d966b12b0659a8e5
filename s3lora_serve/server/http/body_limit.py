"""Bodies of requests are read whole before anything sees them, within a size and a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from s3lora_serve.server.error_responses import error_response
from s3lora_serve.server.http.packed_body import PACKED, NotUnpacked, unpacked

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
            await self._passed_on(body, scope, receive, send)

    async def _passed_on(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """The request with its whole body, unpacked if it came packed, to the application."""
        headers = MutableHeaders(scope=scope)
        packed = headers.get("content-encoding", "identity").strip().lower()
        if body and packed not in ("identity", ""):
            if packed not in (PACKED, f"x-{PACKED}"):
                await _unknown_packing(packed)(scope, receive, send)
                return
            try:
                body = unpacked(body, self._max)
            except NotUnpacked as error:
                message = f"the body cannot be unpacked as its content-encoding says: {error}"
                await error_response(400, message, code="invalid_body")(scope, receive, send)
                return
            if len(body) > self._max:
                await self._too_large("the body, unpacked,")(scope, receive, send)
                return
            del headers["content-encoding"]  # what is behind reads it as it is now
            headers["content-length"] = str(len(body))
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

    def _too_large(self, what: str = "the body") -> ASGIApp:
        hint = f"; raise {self._setting}" if self._setting else ""
        message = f"{what} is over the limit of {self._max} bytes{hint}"
        return error_response(413, message, code="body_too_large", headers=_CLOSE)


def _unknown_packing(packed: str) -> ASGIApp:
    message = f"content-encoding {packed[:80]!r}; send the body as it is, or packed by {PACKED}"
    headers = {"accept-encoding": PACKED}  # as RFC 9110 has it for a 415
    return error_response(415, message, code="unsupported_media_type", headers=headers)


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
