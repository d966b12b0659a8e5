"""``POST /v1/plans``: a task and tools in, a valid plan out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from planners import Plan, PlanRequest
from s3lora_serve.server.departure import Client
from s3lora_serve.server.errors import documented
from s3lora_serve.server.session import session_of

if TYPE_CHECKING:
    from s3lora_serve.runtime.service import PlannerService


def plans_router(service: PlannerService) -> APIRouter:
    """The route that plans."""
    router = APIRouter(tags=["plans"])

    @router.post(
        "/v1/plans", response_model=Plan, responses=documented(400, 404, 408, 413, 422, 429, 502, 503)
    )
    async def plan(body: PlanRequest, request: Request, response: Response) -> Plan | Response:
        """Plan a task with the tools given. ``meta`` says which revision planned, and at what cost."""
        planner = service.get(body.planner)
        request.state.planner = planner.name
        work = service.plan(
            body,
            planner.name,
            temperature=body.temperature,
            seed=body.seed,
            session=session_of(request.headers),
            request_id=request.state.request_id,
        )
        made = await Client(request.receive).unless_gone(work)
        if made is None:
            return Response(status_code=499)  # nobody is there to read it; for the metrics
        if made.meta is not None:  # the revision that planned, whatever serves by now
            response.headers["x-s3lora-planner"] = made.meta.planner
            response.headers["x-s3lora-revision"] = made.meta.revision
            response.headers["x-s3lora-role"] = _role(service, made.meta.planner, made.meta.revision)
        return made

    return router


def _role(service: PlannerService, name: str, revision: str) -> str:
    candidate = service.get(name).candidate
    return "canary" if candidate is not None and candidate.revision.digest == revision else "active"
