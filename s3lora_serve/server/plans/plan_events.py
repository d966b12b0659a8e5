"""A plan as server-sent events: each ``step`` as soon as it is whole, then ``meta`` or ``error``."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from planners import PlanStep
from s3lora_serve.errors import S3LoRAError
from s3lora_serve.server.disconnect import Client
from s3lora_serve.server.error_responses import error_body, told
from s3lora_serve.server.sse import EVENT_STREAM, STREAM_HEADERS, named

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from starlette.types import Receive, Scope, Send

    from planners import PlanMeta
    from s3lora_serve.server.redact import Redactor

log = logging.getLogger(__name__)


class PlanEventStream(Response):
    """Sends what is planned while it is planned; when the client leaves, planning ends, too.

    Nothing is sent before the first step: a failure until then raises, and gets its own HTTP status.
    """

    media_type = EVENT_STREAM

    def __init__(
        self,
        items: AsyncGenerator[PlanStep | PlanMeta, None],
        headers: Callable[[], Mapping[str, str]],
        redact: Redactor,
    ) -> None:
        """``headers`` is asked when the first step is there, and who plans is known."""
        self._items = items
        self._late_headers = headers
        self._redact = redact
        super().__init__(headers=STREAM_HEADERS)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(receive, send)
        await client.unless_gone(self._answer(client.send, scope["state"]["request_id"]))

    async def _answer(self, send: Send, request_id: str) -> None:
        begun = False
        async with aclosing(self._items) as items:
            try:
                async for item in items:
                    if not begun:
                        begun = True
                        self.headers.update(self._late_headers())
                        await send(
                            {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                        )
                    await send(_part(_event(item)))
            except Exception as error:
                if not begun:
                    raise
                await send(_part(self._error(error, request_id)))
        # After the lease was given back: a client that has read the end finds it so.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _error(self, error: Exception, request_id: str) -> bytes:
        if isinstance(error, S3LoRAError):
            return named("error", json.dumps(told(error, self._redact)[1]))
        log.error("request %s failed in mid-stream", request_id, exc_info=error)
        message = f"an unexpected error; the server's log has it under request id {request_id}"
        return named("error", json.dumps(error_body(500, message, code="internal_error")))


def _event(item: PlanStep | PlanMeta) -> bytes:
    return named("step" if isinstance(item, PlanStep) else "meta", item.model_dump_json(exclude_none=True))


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}
