"""The GET routes of ``/admin``: planners with their deployments, operations, events, history, audit."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Response

from s3lora_serve.control.journal.chain import Head
from s3lora_serve.control.operation import Step
from s3lora_serve.errors import ShuttingDown
from s3lora_serve.fleet.unless import unless
from s3lora_serve.server.admin.admin_views import (
    EngineView,
    History,
    OperationList,
    OperationView,
    PlannerList,
    PlannerView,
    Verification,
    engine_view,
    entry_view,
    operation_view,
    planner_view,
    verification,
)
from s3lora_serve.server.admin.state_events import state_events
from s3lora_serve.server.error_responses import documented
from s3lora_serve.server.sse import EVENT_STREAM, EventStream

if TYPE_CHECKING:
    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService

# A stop of the server waits for running requests, so none may wait for long.
MAX_WAIT = 20.0

_EVENTS: dict[str, Any] = {
    "description": "events, until the client leaves or the server stops",
    "content": {EVENT_STREAM: {"schema": {"type": "string"}}},
}

Wait = Annotated[
    float, Query(ge=0, le=MAX_WAIT, description="seconds to wait for a change; the answer comes at the first")
]
Seen = Annotated[
    Step | None,
    Query(description="the step that the caller saw last: with another one by now the answer comes at once"),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
NotedHead = Annotated[
    str | None,
    Query(pattern="^[0-9]{1,18}:[0-9a-f]{64}$", description="a head of the journal that was noted elsewhere"),
]
After = Annotated[int, Query(ge=0, description="only what follows this seq")]


def state_router(service: PlannerService, redact: Redactor) -> APIRouter:
    """The GET routes of ``/admin``."""
    router = APIRouter(prefix="/admin", tags=["state"])

    @router.get("/engine", responses=documented())
    async def engine() -> EngineView:
        """Whether the engine runs; if not, why, and what its restart is at."""
        return engine_view(service, redact)

    @router.get("/planners", responses=documented())
    async def planners() -> PlannerList:
        """Every planner with its deployments, the requests that run on each, and what is being tried."""
        return PlannerList(data=[planner_view(planner, service, redact) for planner in service.planners()])

    @router.get("/planners/{name}", responses=documented(400, 404))
    async def planner(name: str) -> PlannerView:
        """One planner with its deployments."""
        return planner_view(service.get(name), service, redact)

    @router.get("/operations", responses=documented(400, 503))
    async def operations(limit: Limit = 50) -> OperationList:
        """Operations, newest first."""
        found = await service.threads.journal.run(service.control.operations, limit)
        return OperationList(data=[operation_view(operation, redact) for operation in found])

    @router.get("/operations/{id}", responses=documented(400, 404, 503))
    async def operation(id: str, wait: Wait = 0.0, seen: Seen = None) -> OperationView:
        """One operation; with ``wait`` once it has changed or ended, with ``seen`` also if it has already."""
        control = service.control
        if wait:
            with suppress(ShuttingDown):  # nobody waits for a server that ends: it is told as it is
                change = control.wait(id, wait, seen=seen)
                return operation_view(await unless(service.stop.closing, change, ShuttingDown.told), redact)
        found = await service.threads.journal.run(control.operation, id)
        return operation_view(found, redact)

    @router.get("/events", response_class=Response, responses={200: _EVENTS, **documented()})
    async def events() -> EventStream:
        """Every change of state as a server-sent event: `engine`, `planner`, `operation`, `removed`.

        First all that is, then what changes. A stream ends when the server stops; connect again then.
        """
        return EventStream(state_events(service, redact))

    @router.get("/history", responses=documented(400, 404, 503))
    async def history(planner: str | None = None, after: After = 0, limit: Limit = 100) -> History:
        """Who did what, when and why, with which revisions; the newest first."""
        history = service.control.history
        entries = await service.threads.journal.run(history, planner, after=after, limit=limit)
        return History(data=[entry_view(entry, redact) for entry in entries])

    @router.get("/verify", responses=documented(400, 503))
    async def verify(head: NotedHead = None) -> Verification:
        """Compare journal, store and engine, and read every byte of the revisions that serve."""
        noted = None if head is None else Head.parse(head)
        return verification(await service.control.verify(noted), redact)

    return router
