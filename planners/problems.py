"""What can be wrong with a plan, and every defect of one, each as a sentence that a model understands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from planners.step import PlanStep
    from planners.tools import ToolSpec

ProblemKind = Literal[
    "empty",
    "truncated",
    "syntax",
    "too_many_steps",
    "duplicate_id",
    "unknown_tool",
    "bad_arguments",
    "self_reference",
    "forward_reference",
    "unknown_evidence",
]
_MOST_CHARS = 400  # a problem goes back to the planner as feedback, which holds 500
_MOST_NAMES = 200  # characters of tool names in a message


class Problem(BaseModel):
    """One defect of a plan; ``step`` is the id of the step that has it, None for the plan as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: ProblemKind
    step: str | None
    message: str

    def __str__(self) -> str:
        return self.message


class StepChecks:
    """Checks steps in the order of a plan: each against the offered tools and what is known before it."""

    def __init__(
        self, tools: Sequence[ToolSpec | str], known: Collection[str], planned: Collection[str]
    ) -> None:
        self._tools = {tool if isinstance(tool, str) else tool.name: tool for tool in tools}
        self._known = set(known)
        self._planned = set(planned)

    def next(self, step: PlanStep) -> Iterator[Problem]:
        """Problems of ``step``; from then on its result counts as known."""
        for kind, message in [*self._of_id(step), *self._of_tool(step), *self._of_references(step)]:
            yield problem(kind, step.id, message)
        self._known.add(step.id)

    def _of_id(self, step: PlanStep) -> Iterator[tuple[ProblemKind, str]]:
        if step.id in self._known:
            yield "duplicate_id", "is already taken by an earlier result"

    def _of_tool(self, step: PlanStep) -> Iterator[tuple[ProblemKind, str]]:
        tool = self._tools.get(step.tool)
        if tool is None:
            yield "unknown_tool", f"uses {step.tool!r}; offered: {_names(sorted(self._tools))}"
        elif isinstance(tool, str):
            return  # a bare name does not say what the tool takes
        elif tool.arguments is None and step.arguments is not None:
            yield "bad_arguments", f"gives {step.tool} JSON arguments; it takes text: {step.tool}[text]"
        elif tool.arguments is not None and step.arguments is None:
            wanted = tool.arguments.signature()
            yield "bad_arguments", f"gives {step.tool} text; it takes JSON arguments: {step.tool}{wanted}"
        elif tool.arguments is not None:
            # References are judged below, by the order of the steps; here each counts as known.
            for message in tool.arguments.problems(step.arguments, step.depends_on):
                yield "bad_arguments", f"gives {step.tool} wrong arguments: {message}"

    def _of_references(self, step: PlanStep) -> Iterator[tuple[ProblemKind, str]]:
        for ref in step.depends_on:
            if ref in self._known:
                continue
            if ref == step.id:
                yield "self_reference", "refers to itself"
            elif ref in self._planned:
                yield "forward_reference", f"refers to {ref}, which comes later"
            else:
                yield "unknown_evidence", f"refers to {ref}, which no step produces"


def problem(kind: ProblemKind, step: str | None, message: str) -> Problem:
    """A problem whose message names its step and is short enough for ``PlannerInput.feedback``."""
    text = message if step is None else f"step {step} {message}"
    return Problem(
        kind=kind, step=step, message=text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 3] + "..."
    )


def _names(names: Sequence[str]) -> str:
    shown: list[str] = []
    left = _MOST_NAMES
    for name in names:
        left -= len(name) + 2
        if left < 0:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown) or "nothing"
