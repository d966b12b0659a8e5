"""Limits on what requests may ask for, and refusals that name the setting of the limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners.grammar import check_argument_chars
from planners.tools import check_grammar_parts
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from planners import PlannerInput
    from s3lora_serve.config import PlansConfig


def check_plan(request: PlannerInput, max_text: int | None, limits: PlansConfig, *, at: str = "") -> int:
    """Raise RequestRefused (400) for a planning request over a limit; returns the ``max_text`` to use.

    ``at`` leads to the fields in the body, ``"s3lora.plan."`` for instance.
    """
    for field, value, what, limit, setting in (
        ("tools", len(request.tools), "tools are offered", limits.max_tools, "max_tools"),
        ("max_steps", request.max_steps, "steps are asked for", limits.max_steps, "max_steps"),
        ("max_text", max_text or 0, "characters a text are asked for", limits.max_text, "max_text"),
    ):
        if value > limit:
            over = f"{value} {what}, over the limit of {limit} (plans.{setting} of this server)"
            raise _over(over, f"{at}{field}")
    try:  # again, for tools that are not the request's own
        check_grammar_parts((tool.arguments for tool in request.tools), request.max_steps)
    except ValueError as error:
        raise _over(str(error), f"{at}max_steps") from None
    bound = max_text or limits.max_text
    try:
        check_argument_chars(((tool.name, tool.arguments) for tool in request.tools), bound)
    except ValueError as error:
        raise _over(str(error), f"{at}tools") from None
    return bound


def _over(message: str, param: str) -> RequestRefused:
    return RequestRefused(f"{param}: {message}", reason="over_limit", param=param)
