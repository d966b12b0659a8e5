"""``GET /admin/events``: every change of state as a server-sent event, for pages and scripts."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.admin.admin_views import engine_view, operation_view, planner_view
from s3lora_serve.server.sse import named

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService

QUIET_SECONDS = 15.0  # between two comments on a stream without events, so that proxies keep it open
GATHER_SECONDS = 0.05  # changes that follow each other so closely are told together
_COMMENT = b":\n\n"
_COUNTS = ("leases", "shadow")  # of a planner: they change with every request and are no change of state


async def state_events(service: PlannerService, redact: Redactor) -> AsyncGenerator[bytes, None]:
    """``engine``, ``planner`` and ``operation`` as their routes show them, and ``removed``.

    At first everything that is, and the operations of late; then each that changed, until the listeners
    close. A slow reader skips what lies between two looks, never the last state.
    """
    told: dict[tuple[str, str], Any] = {}
    while not service.stop.closing.is_set():
        # Before the look: a change during it is seen at the next one.
        seen = await service.changed(-1, 0)
        before, now = told, _now(service, redact)
        told = {key: _compared(data) for key, data in now.items()}
        for (kind, name), data in now.items():
            if before.get((kind, name)) != told[kind, name]:
                yield named(kind, json.dumps(data))
        for kind, name in before.keys() - now.keys():
            if kind == "planner":
                yield named("removed", json.dumps({"id": name}))
        if await service.changed(seen, QUIET_SECONDS) == seen:
            yield _COMMENT
        await asyncio.sleep(GATHER_SECONDS)


def _now(service: PlannerService, redact: Redactor) -> dict[tuple[str, str], dict[str, Any]]:
    """All that is told of, by kind and name."""
    engine = engine_view(service, redact).model_dump(mode="json")
    now: dict[tuple[str, str], dict[str, Any]] = {("engine", ""): engine}
    for planner in service.planners():
        now["planner", planner.name] = planner_view(planner, service, redact).model_dump(mode="json")
    for operation in service.control.recent:
        now["operation", operation.id] = operation_view(operation, redact).model_dump(mode="json")
    return now


def _compared(data: dict[str, Any]) -> Any:
    """The value without the counts in it."""
    if isinstance(data, dict):
        return {key: _compared(value) for key, value in data.items() if key not in _COUNTS}
    return [_compared(value) for value in data] if isinstance(data, list) else data
