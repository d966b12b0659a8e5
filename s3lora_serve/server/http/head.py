"""HEAD: what GET would answer, without its body."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """ASGI middleware: answers HEAD with the status and the headers of GET, on every route that has one.

    A stream is left as soon as it begins: to the route, its client has gone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        begun = asyncio.Event()

        async def headers_alone(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif message["type"] == "http.response.body" and not begun.is_set():
                begun.set()
                await send({"type": "http.response.body", "body": b""})

        async def until_begun() -> Message:
            if begun.is_set():
                return {"type": "http.disconnect"}
            asked, answered = asyncio.ensure_future(receive()), asyncio.ensure_future(begun.wait())
            try:
                await asyncio.wait((asked, answered), return_when=asyncio.FIRST_COMPLETED)
                return asked.result() if asked.done() else {"type": "http.disconnect"}
            finally:
                asked.cancel()
                answered.cancel()

        # One mapping for both: what the route notes on it (route, state) is there for the access log.
        method, scope["method"] = scope["method"], "GET"
        try:
            await self._app(scope, until_begun, headers_alone)
        finally:
            scope["method"] = method
