"""GET /admin/exams: what is kept of the exams of what serves, and of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from s3lora_serve.server.error_responses import documented
from s3lora_serve.server.redact import public_source

if TYPE_CHECKING:
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.service.planner_service import PlannerService


class KeptExamView(BaseModel):
    """A revision and the exam that is kept of it: counts and margins, no texts; null if there was none."""

    planner: str
    role: Literal["active", "candidate"]
    revision: str
    source: str
    exam: dict[str, Any] | None


class KeptExamList(BaseModel):
    """What serves, planner by planner, each followed by its candidate."""

    object: str = "list"
    data: list[KeptExamView]


def exams_router(service: PlannerService) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/admin", tags=["state"])

    async def view(deployment: Deployment, role: Literal["active", "candidate"]) -> KeptExamView:
        kept = await service.control.kept_exam(deployment.planner, deployment.revision)
        return KeptExamView(
            planner=deployment.planner,
            role=role,
            revision=deployment.revision.digest,
            source=public_source(deployment.revision.lineage.source),
            exam=None if kept is None else kept.to_json(),
        )

    @router.get("/exams", responses=documented(400, 404, 503))
    async def exams(planner: str | None = None) -> KeptExamList:
        """The verdicts that are kept, with paired counts; ``stale`` where it would be asked otherwise now."""
        found = []
        for each in service.planners() if planner is None else (service.get(planner),):
            found.append(await view(each.active, "active"))
            if each.candidate is not None:
                found.append(await view(each.candidate, "candidate"))
        return KeptExamList(data=found)

    return router
