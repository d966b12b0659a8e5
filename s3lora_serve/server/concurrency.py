"""A limit on concurrent requests: those above it get 429 at once, with the time to retry after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from s3lora_serve.errors import Overloaded
from s3lora_serve.server.error_responses import error_body, retry_headers, status_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

_RETRY_AFTER = 1.0  # seconds: a place comes free as soon as any answer ends


class ConcurrencyLimit:
    """ASGI middleware: 429 for a request that comes while ``most`` others to ``paths`` are being answered.

    A place is taken once the body is there: half-sent ones, which anybody can hold back, would take them all.
    There is no queue, which would only move the wait to where the client cannot see it.
    """

    def __init__(self, app: ASGIApp, *, most: int, paths: Iterable[str]) -> None:
        self._app = app
        self._most = most
        self._paths = frozenset(paths)
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return
        if self._running >= self._most:
            await self._refusal()(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1

    def _refusal(self) -> JSONResponse:
        error = Overloaded(
            f"{self._running} requests are being answered, as many as may be (server.max_concurrent of this"
            " server)",
            retry_after=_RETRY_AFTER,
            hint="try again soon",
        )
        body = error_body(status_of(error), str(error), code=error.code)
        return JSONResponse(body, status_code=status_of(error), headers=retry_headers(error))
