"""Routes that say what is served: models in OpenAI's terms, planners in ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from s3lora_serve.errors import UnknownPlanner
from s3lora_serve.server.catalogue_models import ModelCard, ModelCards, PlannerDetails, PlannerListings
from s3lora_serve.server.error_responses import MODEL_NOT_FOUND, documented
from s3lora_serve.server.validation import RequestRefused
from s3lora_serve.server.views import base_card, planner_card, planner_report, planner_summary

if TYPE_CHECKING:
    from pydantic import BaseModel

    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService


def catalogue_router(service: PlannerService, max_model_len: int, redact: Redactor) -> APIRouter:
    """``/v1/models`` and ``/v1/planners``."""
    router = APIRouter(tags=["planners"])

    @router.get("/v1/models", response_model=None, responses=_told(ModelCards, 403))
    async def models() -> dict[str, Any]:
        """The base model and the planners, as OpenAI lists models."""
        cards = [planner_card(planner, service, max_model_len) for planner in service.planners()]
        return {"object": "list", "data": [base_card(service, max_model_len), *cards]}

    @router.get("/v1/models/{name:path}", response_model=None, responses=_told(ModelCard, 400, 403, 404))
    async def model(name: str) -> dict[str, Any]:
        """One planner or the base model (whose name may hold a slash), as OpenAI shows a model."""
        if name == service.base_model:
            return base_card(service, max_model_len)
        try:
            return planner_card(service.get(name), service, max_model_len)
        except UnknownPlanner as error:
            raise RequestRefused(str(error), reason=MODEL_NOT_FOUND, status=404, param="model") from error

    @router.get("/v1/planners", response_model=None, responses=_told(PlannerListings, 403))
    async def planners() -> dict[str, Any]:
        """Every planner: its state, revision, spectral summary, what was pruned, and what its exam found."""
        data = [planner_summary(planner, service, redact) for planner in service.planners()]
        return {"object": "list", "data": data}

    @router.get("/v1/planners/{name}", response_model=None, responses=_told(PlannerDetails, 400, 403, 404))
    async def planner(name: str) -> dict[str, Any]:
        """One planner in full: lineage, prune plan, proof of effect, exam and a row for each module."""
        return planner_report(service.get(name), service, redact)

    return router


def _told(model: type[BaseModel], *errors: int) -> dict[int | str, dict[str, Any]]:
    """A route's ``responses`` for OpenAPI: this answer and these errors."""
    return {200: {"model": model}, **documented(*errors)}
