"""GET /admin/guard: each planner's guard, and what guards refused or would have refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from s3lora_serve.safety.guard.guard_facts import guard_facts
from s3lora_serve.safety.guard.verdicts.verdict_record import VerdictRecord  # noqa: TC001  (pydantic reads it)
from s3lora_serve.safety.guard.verdicts.verdict_report import JudgedCount, VerdictGroup, VerdictReport
from s3lora_serve.server.error_responses import documented

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.service.planner_service import PlannerService

Moment = Annotated[float | None, Query(ge=0, lt=2**40, description="Unix seconds")]
Most = Annotated[int, Query(ge=0, le=1000, description="single requests to show, the latest ones")]


class PlannerGuard(BaseModel):
    """A planner and its guard; null: it has none."""

    id: str
    guard: dict[str, Any] | None


class GuardState(BaseModel):
    """Guards now; of a time the counts by the hour, groups of what was not allowed, and the latest of it."""

    object: str = "guard"
    planners: list[PlannerGuard]
    lost: int  # requests since the start of which nothing could be written down
    counts: list[JudgedCount]
    groups: list[VerdictGroup]
    records: list[VerdictRecord]


def no_verdicts(**_: object) -> VerdictReport:
    """What is known where nothing is written down."""
    return VerdictReport()


def guard_router(service: PlannerService, verdicts: Callable[..., VerdictReport]) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/admin", tags=["state"])

    @router.get("/guard", responses=documented(400, 503))
    async def guard(
        planner: str | None = None, since: Moment = None, until: Moment = None, limit: Most = 100
    ) -> GuardState:
        """What guards refused or would have refused, by planner, part and caller.

        Of a request there are a digest and, if it was refused, at most six words of its task.
        """
        found = await service.threads.files.run(
            verdicts, planner=planner, since=since, until=until, limit=limit
        )
        guards = service.guards
        return GuardState(
            planners=[
                PlannerGuard(id=each.name, guard=guard_facts(guards.settings(each.name), guards.self_test))
                for each in service.planners()
                if planner in (None, each.name)
            ],
            lost=service.metrics.guard.lost(),
            counts=list(found.counts),
            groups=list(found.groups),
            records=list(found.records),
        )

    return router
