"""A plan: steps in the order to write them, what is wrong with them, and what can run at the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from planners.meta import PlanMeta  # noqa: TC001  (pydantic reads the annotation)
from planners.problems import Problem, StepChecks, problem
from planners.step import REFERENCE, PlanStep
from planners.text import formats

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from planners.tools import ToolSpec

__all__ = ["REFERENCE", "Plan", "PlanStep", "Problem"]


class Plan(BaseModel):
    """Steps in the order to write them; ``levels`` says what can run at the same time.

    A plan may be defective, since a model wrote it: ``problems`` says how, and nothing is repaired silently.
    While a plan streams, its chunks are plans that add up to it: ``sum(chunks)``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: tuple[PlanStep, ...]
    meta: PlanMeta | None = None

    def __add__(self, other: object) -> Plan:
        """Both plans' steps; the right one's meta if it has one, since a stream's last chunk tells it."""
        if not isinstance(other, Plan):
            return NotImplemented
        return Plan(steps=self.steps + other.steps, meta=other.meta or self.meta)

    def __radd__(self, other: object) -> Plan:
        """So that ``sum(chunks)``, which starts from 0, gives the whole plan."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def problems(
        self,
        tools: Sequence[ToolSpec | str],
        evidence: Collection[str] = (),
        *,
        max_steps: int | None = None,
    ) -> tuple[Problem, ...]:
        """Every defect, in the order of the steps; empty when the plan can run with these tools.

        ``tools``: a bare name says nothing of what the tool takes, so its input is not checked.
        ``evidence``: ids of results that are known before the first step (``PlannerInput.evidence``).
        ``max_steps``: how many steps were asked for at most.
        """
        found: list[Problem] = []
        if not self.steps:
            found.append(problem("empty", None, "the plan has no steps"))
        if self.meta is not None and self.meta.finish_reason == "length" and not self.meta.repairs:
            found.append(problem("truncated", None, "the answer was cut off at the token limit"))
        if max_steps is not None and len(self.steps) > max_steps:
            message = f"the plan has {len(self.steps)} steps, at most {max_steps} were asked for"
            found.append(problem("too_many_steps", None, message))
        checks = StepChecks(tools, evidence, {step.id for step in self.steps})
        for step in self.steps:
            found.extend(checks.next(step))
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
        """The plan as the ReWOO paper writes it; ``planners.parse`` reads it back."""
        return formats.rewoo(self.steps)

    def to_todos(self, done: Collection[str] = ()) -> list[dict[str, str]]:
        """A list for agents' to-do tools, ``{"content", "status"}`` each; steps in ``done`` are completed.

        The shape is what LangChain's ``TodoListMiddleware`` keeps, which has no room for more: the id, the
        call and what it waits for stand in the content.
        """
        return formats.todos(self.steps, done)

    def to_llmcompiler(self, text_arguments: Mapping[str, str] | None = None) -> str:
        """The plan as LLMCompiler (Kim et al., arXiv 2312.04511) writes it, ending with ``join()``.

        ``text_arguments``: argument name by tool, for tools that take text. Without, text is given by
        position, as in the paper; LangGraph's example reads arguments with names only.
        Lossy in one place, see ``formats.llmcompiler``. Raises ValueError for a plan that LLMCompiler cannot
        run: with ids that do not rise, a reference to a step that does not come before, or a tool "join".
        """
        return formats.llmcompiler(self.steps, text_arguments or {})
