"""What every request passes before routing: it gets an id, and its outcome is counted."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

from s3lora_serve.errors import ShuttingDown
from s3lora_serve.fleet.log_context import REQUEST
from s3lora_serve.server.error_responses import error_response, retry_headers, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from s3lora_serve.fleet.stop import Stop

log = logging.getLogger(__name__)

REQUEST_ID = "x-request-id"
ENGINE = "x-s3lora-engine"
_REQUEST_ID_SHAPE = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class RequestScope:
    """Outermost ASGI middleware: names the request, counts its response, turns uncaught errors into a 500.

    A client's own ``x-request-id`` is kept when it is short and plain, as it goes into logs and the engine.
    """

    def __init__(
        self,
        app: ASGIApp,
        count: Callable[[Scope, int], None],
        says: Mapping[str, str] | None = None,
        stop: Stop | None = None,
    ) -> None:
        """``says`` are headers of every answer, errors included; ``stop`` is the server's, if it has one."""
        self._app = app
        self._stop = stop
        self._count = count
        self._says = dict(says or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID_SHAPE.fullmatch(given) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state |= {"request_id": request_id, "began": time.monotonic(), "complete": False}
        context, status = REQUEST.set(request_id), 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update({**self._says, REQUEST_ID: request_id})
                if self._stop is not None and self._stop.announced:
                    headers["connection"] = "close"  # the next request is for another server
            elif not message.get("more_body", False):
                state["complete"] = True
            await send(message)

        try:
            await self._app(scope, receive, named)
        except asyncio.CancelledError:
            # By the server, of what did not end by itself: a body that is still on its way, say.
            if self._stop is None or not self._stop.cut.is_set():
                raise
            state["cut"] = True
            if not status:
                error = ShuttingDown.told()
                headers = retry_headers(error)
                answer = error_response(status_of(error), str(error), code=error.code, headers=headers)
                await answer(scope, receive, named)
        except Exception:
            log.exception("request %s failed", request_id)
            if not status:
                message = f"an unexpected error; the server's log has it under request id {request_id}"
                await error_response(500, message, code="internal_error")(scope, receive, named)
        finally:
            self._count(scope, status or 499)  # 499: the client left before an answer began
            REQUEST.reset(context)
