"""What a guard is asked about a request for a plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part, Passage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from planners import PlannerInput, ToolSpec
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.safety.guard.guards import Guards


def plan_question(request: PlannerInput, own: Collection[ToolSpec]) -> GuardQuestion:
    """The task, and all else that its client put into it. ``own``: the planner's, so the operator's."""
    return GuardQuestion(request.task, tuple(_passages(request, own)))


def plan_guard(
    guards: Guards,
    planner: str,
    request: PlannerInput,
    own: Callable[[], Collection[ToolSpec]],
    caller: str,
    request_id: str,
) -> Guarding | None:
    """The guard of a request for a plan; None where none applies, and then ``own`` is not asked for."""
    if not guards.judges(planner, caller):
        return None
    return guards.guarding(planner, plan_question(request, own()), caller, request_id)


def _passages(request: PlannerInput, own: Collection[ToolSpec]) -> Iterator[Passage]:
    for tool in request.tools:
        if tool not in own:
            yield Passage(Part.TOOLS, f"tool {tool.name}", _text(tool))
    for name, text in request.evidence.items():
        yield Passage(Part.EVIDENCE, f"result {name}", text)
    for number, text in enumerate(request.feedback, start=1):
        yield Passage(Part.FEEDBACK, f"feedback {number}", text)


def _text(tool: ToolSpec) -> str:
    takes = () if tool.parameters is None else (json.dumps(tool.parameters, ensure_ascii=False),)
    return "\n".join((f"{tool.name}: {tool.description}".rstrip(": "), *takes))
