"""A plan as server-sent events: each ``step`` as soon as it is whole, then ``meta`` or ``error``."""

from __future__ import annotations

import json
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from planners import PlanStep
from s3lora_serve.errors import S3LoRAError
from s3lora_serve.server.error_responses import error_body, told
from s3lora_serve.server.sse import named

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from planners import PlanMeta
    from s3lora_serve.server.redact import Redactor

log = logging.getLogger(__name__)


async def plan_events(
    items: AsyncGenerator[PlanStep | PlanMeta, None], redact: Redactor, request_id: str
) -> AsyncGenerator[bytes, None]:
    """An event for each item. Raises what fails before the first one; later the failure is the last event."""
    begun = False
    try:
        async with aclosing(items):
            async for item in items:
                begun = True
                kind = "step" if isinstance(item, PlanStep) else "meta"
                yield named(kind, item.model_dump_json(exclude_none=True))
    except Exception as error:
        if not begun:
            raise
        yield named("error", json.dumps(_error(error, redact, request_id)))


def _error(error: Exception, redact: Redactor, request_id: str) -> dict[str, Any]:
    if isinstance(error, S3LoRAError):
        return told(error, redact)[1]
    log.error("request %s failed in mid-stream", request_id, exc_info=error)
    message = f"an unexpected error; the server's log has it under request id {request_id}"
    return error_body(500, message, code="internal_error")
