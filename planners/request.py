"""The body of ``POST /v1/plans``: a planning request, and how it is to be answered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planners.tools import MAX_TOOLS, PlannerInput, ToolSpec

LEAST_TEXT = 16  # characters; less is no sentence
MOST_TEXT = 1_000


class PlanRequest(PlannerInput):
    """A planning request and the planner that it is for."""

    planner: Annotated[str, Field(min_length=1, description="name of a planner; GET /v1/planners lists them")]
    # Redeclared without its lower bound: a planner may have tools in planners.yaml.
    tools: Annotated[
        tuple[ToolSpec, ...],
        Field(max_length=MAX_TOOLS, description="left out, the tools that the server has for this planner"),
    ] = ()
    temperature: Annotated[float, Field(strict=True, ge=0, le=2, description="0 is greedy")] = 0.0
    seed: Annotated[
        int | None, Field(strict=True, ge=0, lt=2**63, description="makes sampling repeatable")
    ] = None
    constraint: Annotated[
        Literal["grammar", "none"],
        Field(description="grammar: the engine can only write valid plans; none: it writes what it likes"),
    ] = "grammar"
    repair: Annotated[
        bool,
        Field(
            strict=True,
            description="repair a plan that is not valid or was cut, or ask again; meta.repairs counts it",
        ),
    ] = False
    max_text: Annotated[
        int | None,
        Field(
            strict=True,
            ge=LEAST_TEXT,
            le=MOST_TEXT,
            description="characters of a thought or an input, at most",
        ),
    ] = None
    revision: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{8,64}$", description="answer from this revision only, else 409"),
    ] = None
    stream: Annotated[
        bool, Field(strict=True, description="server-sent events: step, ..., then meta or error")
    ] = False
