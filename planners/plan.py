"""A plan: steps that name a tool and its input, and say which earlier results they use."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator, model_validator

from planners.meta import PlanMeta  # noqa: TC001  (pydantic reads the annotation)
from planners.tools import TOOL_NAME, ToolSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# [0-9], not \d: \d also matches other scripts' digits, which int() would accept.
REFERENCE = re.compile(r"#E[0-9]+")
_STEP_ID = re.compile(r"#E[1-9][0-9]{0,3}")
_LINE_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

ProblemKind = Literal[
    "empty",
    "truncated",
    "too_many_steps",
    "duplicate_id",
    "unknown_tool",
    "self_reference",
    "forward_reference",
    "unknown_evidence",
]
OneLine = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(_Value):
    """One defect of a plan; ``step`` is the id of the step that has it, None for the plan as a whole."""

    kind: ProblemKind
    step: str | None
    message: str

    def __str__(self) -> str:
        return self.message


class PlanStep(_Value):
    """One step: ``tool[tool_input]``, whose result other steps call by ``id``.

    ``depends_on`` is read off ``tool_input`` in order of appearance; giving another value is an error.
    """

    id: str
    thought: OneLine
    tool: str
    tool_input: OneLine
    depends_on: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("tool_input"), str):
            found = references(data["tool_input"])
            given = data.get("depends_on")
            if given is not None and tuple(given) != found:
                raise ValueError(
                    f"depends_on is {list(given)}, but tool_input refers to {list(found)}; leave it out"
                )
            return {**data, "depends_on": found}
        return data

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not _STEP_ID.fullmatch(value):
            raise ValueError(f"step id {value!r}: write #E1, #E2, ...")
        return value

    @field_validator("tool")
    @classmethod
    def _tool(cls, value: str) -> str:
        if not TOOL_NAME.fullmatch(value):
            raise ValueError(
                f"tool {value!r}: use 1 to 64 letters, digits and '_', not starting with a digit"
            )
        return value

    @field_validator("thought", "tool_input")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if found := _LINE_BREAK.search(value):
            raise ValueError(
                f"control character U+{ord(found.group()):04X} in {value!r}; keep it on one line"
            )
        return value

    @field_validator("tool_input")
    @classmethod
    def _no_brackets(cls, value: str) -> str:
        if "[" in value or "]" in value:
            # Executors of ReWOO plans stop at the first "]" (LangGraph's example), so the rest would be lost.
            raise ValueError(
                f"tool_input {value!r} holds a square bracket, which ends the input for ReWOO executors"
            )
        return value


class Plan(_Value):
    """Steps in the order to write them; ``levels`` says what can run at the same time.

    A plan may be defective, since a model wrote it: ``problems`` says how, and nothing is repaired silently.
    """

    steps: tuple[PlanStep, ...]
    meta: PlanMeta | None = None

    def problems(
        self,
        tools: Sequence[ToolSpec | str],
        evidence: Collection[str] = (),
        *,
        max_steps: int | None = None,
    ) -> tuple[Problem, ...]:
        """Every defect, in the order of the steps; empty when the plan can run with these tools.

        ``evidence``: ids of results that are known before the first step (``PlannerInput.evidence``).
        ``max_steps``: how many steps were asked for at most.
        """
        offered = {tool if isinstance(tool, str) else tool.name for tool in tools}
        found: list[Problem] = []
        if not self.steps:
            found.append(Problem(kind="empty", step=None, message="the plan has no steps"))
        if self.meta is not None and self.meta.finish_reason == "length":
            message = "the answer was cut off at the token limit"
            found.append(Problem(kind="truncated", step=None, message=message))
        if max_steps is not None and len(self.steps) > max_steps:
            message = f"the plan has {len(self.steps)} steps, at most {max_steps} were asked for"
            found.append(Problem(kind="too_many_steps", step=None, message=message))
        planned = {step.id for step in self.steps}
        known = set(evidence)
        for step in self.steps:
            found.extend(_step_problems(step, offered, known, planned))
            known.add(step.id)
        return tuple(found)

    def levels(self) -> tuple[tuple[PlanStep, ...], ...]:
        """Steps grouped so that each needs only earlier groups: one group can run in parallel.

        References to evidence from outside the plan count as known. Raises ValueError for a duplicate id and
        for a reference to the step itself or a later one.
        """
        planned = {step.id for step in self.steps}
        level: dict[str, int] = {}
        groups: list[list[PlanStep]] = []
        for step in self.steps:
            needs = [ref for ref in step.depends_on if ref in planned]
            late = [ref for ref in needs if ref not in level]
            if step.id in level or late:
                why = f"refers to {late[0]}, which is not done before it" if late else "appears twice"
                raise ValueError(f"step {step.id} {why}; see problems()")
            level[step.id] = at = 1 + max((level[ref] for ref in needs), default=-1)
            if at == len(groups):
                groups.append([])
            groups[at].append(step)
        return tuple(tuple(group) for group in groups)

    def to_rewoo(self) -> str:
        """The plan as the ReWOO paper writes it; ``rewoo.parse`` reads it back."""
        from planners.rewoo import render  # rewoo builds Plans, so importing it above would be a cycle

        return render(self)


def references(text: str) -> tuple[str, ...]:
    """Evidence ids in ``text``, each once, in order of appearance; ``#E10`` is never ``#E1`` and a zero."""
    return tuple(dict.fromkeys(REFERENCE.findall(text)))


def _step_problems(step: PlanStep, offered: set[str], known: set[str], planned: set[str]) -> list[Problem]:
    def problem(kind: ProblemKind, message: str) -> Problem:
        return Problem(kind=kind, step=step.id, message=f"step {step.id} {message}")

    found = []
    if step.id in known:
        found.append(problem("duplicate_id", "is already taken by an earlier result"))
    if step.tool not in offered:
        found.append(
            problem("unknown_tool", f"uses {step.tool!r}; offered: {', '.join(sorted(offered)) or 'nothing'}")
        )
    for ref in step.depends_on:
        if ref == step.id and ref not in known:
            found.append(problem("self_reference", "refers to itself"))
        elif ref not in known and ref in planned:
            found.append(problem("forward_reference", f"refers to {ref}, which comes later"))
        elif ref not in known:
            found.append(problem("unknown_evidence", f"refers to {ref}, which no step produces"))
    return found
