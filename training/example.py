"""A task and the plan it should get, before tools have names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from planners import Plan, PlanStep

if TYPE_CHECKING:
    from collections.abc import Mapping

Role = Literal["lookup", "language", "calculator"]
_RESULT = re.compile(r"\{(\d+)\}")


@dataclass(frozen=True)
class Draft:
    """One step. ``{2}`` in ``thought`` or ``text`` stands for the result of step 2, counted from 1.

    ``reads``: the step only reads what step ``reads`` found, so it goes where no language model is offered.
    """

    role: Role
    thought: str
    text: str
    reads: int | None = None


@dataclass(frozen=True)
class Example:
    """A task, the steps of its plan and the answer they lead to."""

    task: str
    steps: tuple[Draft, ...]
    answer: str


def to_plan(example: Example, tool_of: Mapping[Role, str]) -> Plan:
    """The example's plan with tools named; without a ``language`` tool, its steps are left out."""
    number: dict[int, int] = {}
    steps: list[PlanStep] = []
    for at, draft in enumerate(example.steps, start=1):
        if draft.role not in tool_of:
            if draft.reads is not None:
                number[at] = number[draft.reads]
            continue
        number[at] = n = len(steps) + 1
        thought = _RESULT.sub(lambda m: f"the result of step {number[int(m[1])]}", draft.thought)
        text = _RESULT.sub(lambda m: f"#E{number[int(m[1])]}", draft.text)
        steps.append(PlanStep(id=f"#E{n}", thought=thought, tool=tool_of[draft.role], tool_input=text))
    return Plan(steps=tuple(steps))
