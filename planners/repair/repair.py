"""Repairs what a planner wrote without a grammar: renumber and strip, then cut to the last valid step.

Pure, and never silent: every change has a note. Asking the planner again is the caller's next rung.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from planners.plan import Plan
from planners.problems import Problem, ProblemKind, StepChecks, problem
from planners.repair.salvage import Salvage
from planners.repair.tool_finder import ToolFinder, as_arguments
from planners.step import REFERENCE, PlanStep, references, shortened
from planners.text.rewoo import parse
from planners.text.syntax import PlanSyntaxError, why

if TYPE_CHECKING:
    from collections.abc import Callable

    from planners.repair.salvage import Draft
    from planners.tools import PlannerInput, ToolSpec

_UNMARKED = re.compile(r"(?<![\w#])E([0-9]{1,4})(?!\w)")
_ROUND = str.maketrans("[]", "()")
_DEEPEST = 32


@dataclass(frozen=True)
class Repaired:
    """A plan that is valid, or ``problems`` that say why there is none.

    ``repairs`` counts the changes, which ``notes`` name one by one; 0 means that the text was a valid plan.
    ``cut`` is why steps at the end were left out, if some were: the plan is valid and may be less than meant.
    """

    plan: Plan
    repairs: int
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]
    cut: Problem | None = None


def repair(text: str, request: PlannerInput) -> Repaired:
    """The valid plan that ``text`` can be read as; never raises, and a valid text comes back as it is.

    Spelling, numbering and text around the steps are repaired. At the first step that cannot be (an
    unknown tool, a reference to a later or unknown result, a half-written end) the plan is cut. A repeated
    id means the latest step of that id that stands before the reference.
    """
    fault: str | None = None
    try:
        plan = parse(text)
    except PlanSyntaxError as error:
        fault = str(error)
    else:
        if not plan.problems(request.tools, tuple(request.evidence), max_steps=request.max_steps):
            return Repaired(plan, 0, (), ())
    return _Mending(text, request).result(fault)


class _Mending:
    """The valid steps so far, what their numbers were, and what was changed."""

    def __init__(self, text: str, request: PlannerInput) -> None:
        self._request = request
        self._tools = ToolFinder(request.tools)
        self._salvage = Salvage(text, self._tools.find)
        self._checks = StepChecks(request.tools, tuple(request.evidence), ())
        self._names = {int(id_.removeprefix("#E")): id_ for id_ in request.evidence}  # written → ours
        self._unmarked = False  # ids were written without their "#"
        self._steps: list[PlanStep] = []
        self._notes: list[str] = []
        self._cut: Problem | None = None

    def result(self, fault: str | None) -> Repaired:
        """Mend until the text or what is valid of it ends. ``fault``: what the strict reader said."""
        for draft in self._salvage.drafts():
            notes, step = list(draft.notes), None
            try:
                step = self._step(draft, notes)
                found = next(self._checks.next(step), None)
            except _Unmendable as error:
                found = error.problem
            if step is None or found is not None:
                self._cut = found
                break
            self._names[draft.number] = step.id
            self._steps.append(step)
            self._notes += [f"step {step.id}: {note}" for note in notes]
        else:
            self._notes += self._salvage.rest
            if self._salvage.half_a_step:
                self._cut = problem("truncated", None, "the text ends in the middle of a step")
        return self._repaired(fault)

    def _repaired(self, fault: str | None) -> Repaired:
        plan = Plan(steps=tuple(self._steps))
        if not plan.steps:
            reason = self._cut or problem("syntax", None, fault or "there is no step")
            return Repaired(plan, 0, (), (reason, problem("empty", None, "the plan has no steps")), self._cut)
        if self._cut is not None:
            self._notes.append(f"cut after {plan.steps[-1].id}: {self._cut}")
        return Repaired(plan, len(self._notes), tuple(self._notes), (), self._cut)

    def _step(self, draft: Draft, notes: list[str]) -> PlanStep:
        id_ = f"#E{self._request.first_step + len(self._steps)}"
        if len(self._steps) == self._request.max_steps:
            message = f"the plan has more than the {len(self._steps)} steps that were asked for"
            raise _Unmendable("too_many_steps", None, message)
        if not draft.closed:
            raise _Unmendable("truncated", id_, f"is cut off: {shortened(draft.written)} has no end")
        tool = self._tools.find(draft.tool)
        if tool is None:
            offered = ", ".join(spec.name for spec in self._request.tools)
            raise _Unmendable("unknown_tool", id_, f"uses {draft.tool!r}; offered: {offered}")
        if draft.wrong:
            raise _Unmendable("bad_arguments", id_, f"cannot be read: {draft.wrong}")
        spelling = f"#E{draft.number} = {tool.name}"
        if draft.written[:-1] != spelling or draft.written[-1] == "(":
            notes.append(f"read {shortened(draft.written)} as {spelling!r}")
        if f"#E{draft.number}" != id_:
            notes.append(f"renumbered from #E{draft.number}")
        if not draft.thought:
            notes.append("its thought was missing")
        self._unmarked = self._unmarked or not draft.written.startswith("#")
        given = self._given(draft, tool, id_, notes)
        thought = self._renumbered(draft.thought or f"Use {tool.name}.", notes)
        try:
            return PlanStep(id=id_, thought=thought, tool=tool.name, **given)
        except ValidationError as error:
            raise _Unmendable("syntax", id_, f"cannot be written: {why(error)}") from error

    def _given(self, draft: Draft, tool: ToolSpec, id_: str, notes: list[str]) -> dict[str, Any]:
        """The input in the form that the tool takes, its references renumbered."""
        text, arguments = draft.text, draft.arguments
        if arguments is None and tool.arguments is not None:
            arguments = as_arguments(text, tool)
            if arguments is not None:
                notes.append(f"gave the text as the argument {next(iter(arguments))!r}")
        elif arguments is not None and tool.arguments is None and len(arguments) == 1:
            (value,) = arguments.values()
            if isinstance(value, str):
                text, arguments = value, None
                notes.append("gave the only argument as text")
        if arguments is None and ("[" in text or "]" in text):
            text = text.translate(_ROUND)
            notes.append("wrote the square brackets in its input as round ones")
        change = self._checked_renumbering(draft, id_, notes)
        return (
            {"tool_input": change(text)} if arguments is None else {"arguments": _in_json(arguments, change)}
        )

    def _checked_renumbering(self, draft: Draft, id_: str, notes: list[str]) -> Callable[[str], str]:
        def change(text: str) -> str:
            for ref in references(self._marked(text)):
                number = _number(ref)
                if number in self._names:
                    continue
                if number == draft.number:
                    raise _Unmendable("self_reference", id_, "refers to itself")
                if number in self._salvage.numbers():
                    raise _Unmendable("forward_reference", id_, f"refers to {ref}, which comes later")
                message = f"refers to {shortened(ref)}, which no step produces"
                raise _Unmendable("unknown_evidence", id_, message)
            return self._renumbered(text, notes)

        return change

    def _marked(self, text: str) -> str:
        return _UNMARKED.sub(r"#E\1", text) if self._unmarked else text

    def _renumbered(self, text: str, notes: list[str]) -> str:
        new = REFERENCE.sub(lambda ref: self._names.get(_number(ref[0]), ref[0]), self._marked(text))
        if new != text and (note := f"changed references to {', '.join(references(new))}") not in notes:
            notes.append(note)
        return new


class _Unmendable(Exception):
    """A step that cannot be kept."""

    def __init__(self, kind: ProblemKind, step: str | None, message: str) -> None:
        super().__init__(message)
        self.problem = problem(kind, step, message)


def _in_json(value: Any, change: Callable[[str], str], depth: int = 0) -> Any:
    if isinstance(value, str):
        return change(value)
    if depth > _DEEPEST:
        return value  # more than any tool takes, as the check of the arguments will say
    if isinstance(value, list):
        return [_in_json(item, change, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _in_json(item, change, depth + 1) for key, item in value.items()}
    return value


def _number(ref: str) -> int:
    digits = ref.removeprefix("#E").lstrip("0")
    return int(digits or "0") if len(digits) < 10 else -1  # no step has such a number
