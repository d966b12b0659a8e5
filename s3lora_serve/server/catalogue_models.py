"""Answers of the routes that only tell, as types for OpenAPI; what they say is put together in views."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from planners import SsiSummary, ToolSpec  # noqa: TC001  (pydantic reads the annotations)


class ServedMark(BaseModel):
    """What is served under a planner's name."""

    revision: str = Field(description="digest of the revision that serves")
    ssi: SsiSummary
    pruned_modules: list[str]
    state: str
    candidate: str | None = Field(description="digest of the revision that is tried")


class ModelCard(BaseModel):
    """A planner or the base model as OpenAI shows a model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: str | None = Field(description="of a planner: the base model")
    max_model_len: int
    engine: str
    s3lora: ServedMark | None = Field(None, description="of a planner")


class ModelCards(BaseModel):
    """The planners and their base model."""

    object: Literal["list"]
    data: list[ModelCard]


class RolloutMark(BaseModel):
    """What is tried, and on what share of the requests."""

    revision: str
    share: float
    shadow: bool


class DeploymentCard(BaseModel):
    """A revision that the engine holds or is to hold."""

    revision: str
    state: str
    requests: int = Field(description="that run on it now")


class PlannerListing(BaseModel):
    """A planner: what serves, what is tried, and what was pruned."""

    id: str
    object: Literal["planner"]
    description: str
    tools: list[ToolSpec] = Field(description="its own, for requests that name none")
    state: str
    reason: str | None = Field(description="why it does not serve")
    served_by: str
    revision: str
    previous: str | None
    generation: int
    rollout: RolloutMark | None
    deployments: list[DeploymentCard]
    base_model: str
    engine: str
    ssi: SsiSummary
    kept_modules: int
    pruned_modules: list[str]
    guard: dict[str, Any] | None = Field(description="how requests are judged, if they are")
    exam: dict[str, Any] | None = Field(description="what its exam found, if it was examined")


class PlannerListings(BaseModel):
    """All planners."""

    object: Literal["list"]
    data: list[PlannerListing]


class PlannerDetails(PlannerListing):
    """All that is known of a planner."""

    lineage: dict[str, Any] = Field(
        description="where its weights come from, by which policy they were pruned"
    )
    plan: dict[str, Any] = Field(description="the prune plan")
    effect: dict[str, Any] | None = Field(description="the proof that it changes answers")
    seconds: dict[str, float] = Field(description="what its loading took")
    modules: list[dict[str, Any]] = Field(description="a row a module: shape, scores, whether it was pruned")


class Alive(BaseModel):
    """The server can answer."""

    status: Literal["alive"]


class Health(BaseModel):
    """Whether the engine answers."""

    status: Literal["healthy", "unhealthy"]


class Versions(BaseModel):
    """What runs here."""

    version: str = Field(description="of s3lora-serve")
    engine: str = Field(description="vllm; fake: no model answers")


class PlannerCounts(BaseModel):
    """How many planners serve, of how many."""

    serving: int
    configured: int
    withheld: int | None = None


class RestartMark(BaseModel):
    """How far an engine's restart is."""

    stage: str
    attempt: int
    seconds: float


class Readiness(BaseModel):
    """Whether all planners serve."""

    status: Literal["ready", "not ready", "stopping"]
    engine: str
    planners: PlannerCounts
    guard: str | None = Field(None, description="why a guard that withholds answers can come to no verdict")
    restart: RestartMark | None = None
