"""What an answer is worth as a plan; the same on every route."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners import Plan, PlanSyntaxError, Problem, parse
from s3lora_serve.errors import EngineError

if TYPE_CHECKING:
    from planners import PlannerInput
    from s3lora_serve.fleet.leases import LeaseOutcome


def judged(text: str, request: PlannerInput) -> tuple[Plan | None, tuple[Problem, ...]]:
    """The text as a valid plan for the request, or None and what is wrong with it."""
    try:
        plan = parse(text)
    except PlanSyntaxError as error:
        return None, (Problem(kind="syntax", step=None, message=str(error)),)
    problems = plan.problems(request.tools, request.evidence, max_steps=request.max_steps)
    return (None, problems) if problems else (plan, ())


def is_cut(finish_reason: str | None) -> bool:
    """Whether an answer was cut off: what it holds is then no whole plan, even if it reads as one."""
    return finish_reason != "stop"


def outcome_of_cut(prompt_tokens: int, max_model_len: int, *, bounded: bool = False) -> LeaseOutcome:
    """What a plan that was cut off says of its revision: that it rambles, or nothing.

    Nothing when the client left it no room: with a prompt of more than half the model's length, or with a
    bound of the client on the tokens (``bounded``). Else any client could have a new revision rolled back.
    """
    return "aborted" if bounded or 2 * prompt_tokens > max_model_len else "invalid"


def broken(why: str) -> EngineError:
    """The error that an engine makes which ends an answer by itself and against its grammar."""
    return EngineError(f"the engine's answer breaks the grammar that was set: {why}")
