"""The body of ``POST /v1/plans``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from planners import PlannerInput


class PlanRequest(PlannerInput):
    """A planning request and the planner that it is for."""

    planner: Annotated[str, Field(min_length=1, description="name of a planner; GET /v1/planners lists them")]
    temperature: Annotated[float, Field(ge=0, le=2, description="0 is greedy")] = 0.0
    seed: Annotated[int | None, Field(ge=0, lt=2**63, description="makes sampling repeatable")] = None
