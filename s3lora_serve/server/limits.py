"""Limits on what requests may ask for, and refusals that name the setting of the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planners.grammar import check_argument_chars
from planners.tools import check_grammar_parts
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from planners import PlannerInput


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one server, by the setting that each comes from."""

    max_tools: int = 64  # plans.max_tools
    max_steps: int = 32  # plans.max_steps
    max_text: int = 240  # plans.max_text: characters of a thought or an input; also the default
    max_task_chars: int = 32_000  # plans.max_task_chars
    plan_seconds: float = 120.0  # plans.seconds: from when its planner is held until its plan is whole
    max_concurrent: int = 128  # server.max_concurrent: requests that are answered at once
    max_n: int = 8  # server.max_n: answers to one chat or completion request

    def check_plan(self, request: PlannerInput, max_text: int | None, *, at: str = "") -> int:
        """Raise RequestRefused (422) for a planning request over a limit; returns the ``max_text`` to use.

        ``at`` leads to the fields in the body, ``"s3lora.plan."`` for instance.
        """
        _check(len(request.tools), self.max_tools, "tools are offered", f"{at}tools", "plans.max_tools")
        _check(request.max_steps, self.max_steps, "steps are asked for", f"{at}max_steps", "plans.max_steps")
        _check(
            len(request.task),
            self.max_task_chars,
            "characters are in the task",
            f"{at}task",
            "plans.max_task_chars",
        )
        _check(
            max_text or 0, self.max_text, "characters a text are asked for", f"{at}max_text", "plans.max_text"
        )
        try:  # again, for tools that are not the request's own
            check_grammar_parts((tool.arguments for tool in request.tools), request.max_steps)
        except ValueError as error:
            raise RequestRefused(
                f"{at}max_steps: {error}", reason="over_limit", status=422, param=f"{at}max_steps"
            ) from None
        bound = max_text or self.max_text
        try:
            check_argument_chars(((tool.name, tool.arguments) for tool in request.tools), bound)
        except ValueError as error:
            raise RequestRefused(
                f"{at}tools: {error}", reason="over_limit", status=422, param=f"{at}tools"
            ) from None
        return bound


def _check(value: int, limit: int, what: str, param: str, setting: str) -> None:
    if value > limit:
        raise RequestRefused(
            f"{param}: {value} {what}, over the limit of {limit} ({setting} of this server)",
            reason="over_limit",
            status=422,
            param=param,
        )
