"""``POST /v1/plans``: a task and tools in, a valid plan out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from planners import Plan
from s3lora_serve.server.errors import documented
from s3lora_serve.server.plan_request import PlanRequest  # noqa: TC001  (FastAPI reads the annotation)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from s3lora_serve.runtime.service import PlannerService


def plans_router(service: PlannerService) -> APIRouter:
    """The route that plans."""
    router = APIRouter(tags=["plans"])

    @router.post("/v1/plans", response_model=Plan, responses=documented(400, 404, 408, 413, 422, 502, 503))
    async def plan(body: PlanRequest, request: Request, response: Response) -> Plan | Response:
        """Plan a task with the tools given. ``meta`` says which revision planned, and at what cost."""
        planner = service.serving(body.planner)
        request.state.planner = planner.name
        work = service.plan(body, planner.name, temperature=body.temperature, seed=body.seed)
        made = await _unless_gone(request, work)
        if made is None:
            return Response(status_code=499)  # nobody is there to read it; for the metrics
        if made.meta is not None:  # the revision that planned, whatever serves by now
            response.headers["x-s3lora-planner"] = made.meta.planner
            response.headers["x-s3lora-revision"] = made.meta.revision
        return made

    return router


async def _unless_gone(request: Request, work: Coroutine[None, None, Plan]) -> Plan | None:
    """The result, or None once the client has left: then the work is cancelled, and the engine stops too."""
    making = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((making, leaving), return_when=asyncio.FIRST_COMPLETED)
        return await making if making.done() else None
    finally:
        for task in (making, leaving):
            task.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
