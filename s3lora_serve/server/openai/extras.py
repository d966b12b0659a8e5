"""The body field ``s3lora`` of chat and completion requests: what OpenAI's own fields cannot say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planners import ToolSpec
from planners.request import LEAST_TEXT, MOST_TEXT
from planners.tools import MAX_STEPS, PlannerInput
from s3lora_serve.server.limits import check_plan
from s3lora_serve.server.plans.offered_tools import tools_of
from s3lora_serve.server.validation import RequestRefused, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3lora_serve.config import PlansConfig
    from s3lora_serve.server.validation import Fields

    Path = tuple[int | str, ...]


class PlanExtras(BaseModel):
    """``s3lora.plan``: answer the one user message with a plan, as ``POST /v1/plans`` would."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tools: Annotated[
        tuple[ToolSpec, ...], Field(description="left out, the tools that the server has for this planner")
    ] = ()
    max_steps: Annotated[int, Field(ge=1, le=MAX_STEPS, strict=True)] = 8
    evidence: Annotated[
        dict[str, str], Field(description="results that are known: #E1 to #En without a gap")
    ] = Field(default_factory=dict)
    feedback: Annotated[tuple[str, ...], Field(description="what was wrong with an earlier plan")] = ()
    max_text: Annotated[
        int | None,
        Field(
            ge=LEAST_TEXT,
            le=MOST_TEXT,
            strict=True,
            description="characters of a thought or an input, at most",
        ),
    ] = None


class Extras(BaseModel):
    """``s3lora`` in the body of a chat or completion request; stock clients send it as ``extra_body``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    revision: Annotated[
        str | None,
        Field(pattern="^[0-9a-f]{8,64}$", description="answer from this revision only, else 409"),
    ] = None
    plan: Annotated[PlanExtras | None, Field(description="chat completions only")] = None


EXTRA_FIELDS: Fields = {
    ("s3lora",): Extras.model_fields,
    ("s3lora", "plan"): PlanExtras.model_fields,
    ("s3lora", "plan", "tools"): ToolSpec.model_fields,
}


def extras_of(fields: Mapping[str, Any]) -> Extras:
    """What ``s3lora`` says; without it, nothing. Raises RequestRefused (400)."""
    if fields.get("s3lora") is None:
        return Extras()
    try:
        return Extras.model_validate(fields["s3lora"])
    except ValidationError as error:
        raise _refused(error, lambda loc: ("s3lora", *loc)) from None


def planner_input(
    plan: PlanExtras, task: str, own: tuple[ToolSpec, ...], who: str, limits: PlansConfig
) -> tuple[PlannerInput, int]:
    """The planning request, and the ``max_text`` to use; one that leaves tools out gets ``who``'s ``own``.

    Raises RequestRefused (400), which names fields as the body of a chat request has them.
    """
    given = plan.tools if "tools" in plan.model_fields_set else None
    tools = tools_of(given, own, who, "s3lora.plan.tools")
    steps = plan.max_steps if "max_steps" in plan.model_fields_set else min(plan.max_steps, limits.max_steps)
    try:
        request = PlannerInput.model_validate(
            {
                "task": task,
                "tools": tools,
                "max_steps": steps,
                "evidence": plan.evidence,
                "feedback": plan.feedback,
            }
        )
    except ValidationError as error:
        raise _refused(error, _in_chat) from None
    return request, check_plan(request, plan.max_text, limits, at="s3lora.plan.")


def _in_chat(loc: Path) -> Path:
    return ("messages", 0, "content") if loc[:1] == ("task",) else ("s3lora", "plan", *loc)


def _refused(error: ValidationError, path: Callable[[Path], Path]) -> RequestRefused:
    problems = [{**problem, "loc": path(problem["loc"])} for problem in error.errors()]
    unknown = any(problem["type"] == "extra_forbidden" for problem in problems)
    message, param = describe(problems, EXTRA_FIELDS)
    if unknown:  # it would have no effect: as for the body's own fields
        return RequestRefused(message, reason="ignored_field", param=param)
    return RequestRefused(message, reason="invalid_request", param=param)
