"""``POST /v1/plans``: a task and tools in, a valid plan out, whole or step by step."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from planners import Plan, PlanRequest
from s3lora_serve.errors import UnknownPlanner
from s3lora_serve.server.error_responses import documented
from s3lora_serve.server.http.disconnect import Client
from s3lora_serve.server.limits import check_plan
from s3lora_serve.server.plans.offered_tools import tools_of
from s3lora_serve.server.plans.plan_body import PlanRoute
from s3lora_serve.server.plans.plan_description import ANSWERS, EXAMPLES
from s3lora_serve.server.plans.plan_events import plan_events
from s3lora_serve.server.plans.session import session_of
from s3lora_serve.server.sse import EventStream, wants_events
from s3lora_serve.server.validation import RequestRefused
from s3lora_serve.server.views import headers_of, headers_of_plan
from s3lora_serve.serving.planning import PlanOptions

if TYPE_CHECKING:
    from s3lora_serve.config import PlansConfig
    from s3lora_serve.fleet.planner import Planner
    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService


PLANS = "/v1/plans"


def plans_router(service: PlannerService, limits: PlansConfig, redact: Redactor) -> APIRouter:
    """The route that plans."""
    router = APIRouter(tags=["plans"], route_class=PlanRoute)

    @router.post(PLANS, response_class=Response, responses=_RESPONSES)
    async def plan(
        body: Annotated[PlanRequest, Body(openapi_examples=EXAMPLES)], request: Request
    ) -> Response:
        """Plan a task with the tools given, or with the planner's own.

        ``meta`` says who planned and at what cost. With ``stream``, or a request that accepts only
        ``text/event-stream``, each step is sent as soon as it is whole.
        """
        planner = _planner(service, body.planner)
        request.state.planner = planner.name
        body, options = _within(body, planner, limits)
        asked: dict[str, Any] = {
            "revision": body.revision,
            "session": session_of(request.headers),
            "request_id": request.state.request_id,
            "caller": request.state.caller,
            "leased": partial(setattr, request.state, "lease"),
        }
        if body.stream or ("stream" not in body.model_fields_set and wants_events(request)):
            items = service.stream_plan(body, planner.name, options, **asked)
            events = plan_events(items, redact, request.state.request_id)
            return EventStream(events, lambda: headers_of(request.state.lease))
        made = await Client(request.receive).unless_gone(service.plan(body, planner.name, options, **asked))
        if made is None:
            return Response(status_code=499)  # the client has left; for the metrics
        return Response(
            made.model_dump_json(exclude_none=True),
            media_type="application/json",
            headers=headers_of_plan(made.meta) if made.meta else None,
        )

    return router


def _planner(service: PlannerService, name: str) -> Planner:
    try:
        return service.get(name)
    except UnknownPlanner as error:
        raise RequestRefused(str(error), reason=error.code, status=404, param="planner") from error


def _within(body: PlanRequest, planner: Planner, limits: PlansConfig) -> tuple[PlanRequest, PlanOptions]:
    """The request as it is to be planned, and how. Raises RequestRefused for what is over a limit."""
    given = body.model_fields_set
    tools = tools_of(body.tools if "tools" in given else None, planner.tools, planner.name, "tools")
    max_steps = body.max_steps if "max_steps" in given else min(body.max_steps, limits.max_steps)
    body = body.model_copy(update={"tools": tools, "max_steps": max_steps})
    return body, PlanOptions(
        temperature=body.temperature,
        seed=body.seed,
        constraint=body.constraint,
        repair=body.repair,
        max_text=check_plan(body, body.max_text, limits),
        seconds=limits.seconds,
    )


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Plan, **ANSWERS},
    **documented(400, 403, 404, 408, 409, 413, 415, 422, 429, 499, 500, 502, 503),
}
