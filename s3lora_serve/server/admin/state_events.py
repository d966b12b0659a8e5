"""``GET /admin/events``: every change of state as a server-sent event, for pages and scripts."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from s3lora_serve.server.admin.admin_views import operation_view, planner_view
from s3lora_serve.server.disconnect import Client
from s3lora_serve.server.sse import EVENT_STREAM, STREAM_HEADERS, named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService

QUIET_SECONDS = 15.0  # between two comments on a stream without events, so that proxies keep it open
GATHER_SECONDS = 0.05  # changes that follow each other so closely are told together
_COMMENT = b":\n\n"
_COUNTS = ("leases", "shadow")  # of a planner: they change with every request and are no change of state


class StateEvents:
    """What is told: ``engine``, ``planner`` and ``operation`` as their routes show them, and ``removed``.

    At first everything that is, and the operations of late; then each that changed. A slow reader skips what
    lies between two looks, never the last state.
    """

    def __init__(self, service: PlannerService, redact: Redactor) -> None:
        self._service = service
        self._redact = redact
        self._told: dict[tuple[str, str], Any] = {}

    async def events(self) -> AsyncIterator[bytes]:
        """Each event as it goes over the wire, until the listeners close."""
        while not self._service.ending:
            # Before the look: a change during it is seen at the next one.
            seen = await self._service.changed(-1, 0)
            for kind, data in self._changes():
                yield named(kind, json.dumps(data))
            if await self._service.changed(seen, QUIET_SECONDS) == seen:
                yield _COMMENT
            await asyncio.sleep(GATHER_SECONDS)

    def _changes(self) -> list[tuple[str, dict[str, Any]]]:
        """(kind, data) of all that is not as it was told last."""
        now = self._now()
        compared = {key: _compared(data) for key, data in now.items()}
        found = [(key[0], data) for key, data in now.items() if self._told.get(key) != compared[key]]
        gone = [name for kind, name in self._told.keys() - now.keys() if kind == "planner"]
        found += [("removed", {"id": name}) for name in gone]
        self._told = compared
        return found

    def _now(self) -> dict[tuple[str, str], dict[str, Any]]:
        service, redact = self._service, self._redact
        host = service.host
        engine = {"kind": str(service.engine_kind), "alive": host.alive, "restarts": host.restarts}
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


class StateEventStream(Response):
    """Sends them until the client leaves or the listeners close."""

    media_type = EVENT_STREAM

    def __init__(self, events: StateEvents) -> None:
        self._events = events
        super().__init__(headers=STREAM_HEADERS)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Client(receive, send)
        await client.unless_gone(self._answer(client.send))

    async def _answer(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for event in self._events.events():
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
