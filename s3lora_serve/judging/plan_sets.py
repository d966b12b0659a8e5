"""Plan sets as files: a task, its tools and a good plan a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from planners import PlannerInput, ToolSpec, parse
from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.suite import PlanSet, PlanTask
from s3lora_serve.judging.table_files import RowFault, at_line, jsonl_rows, sampled

if TYPE_CHECKING:
    from pathlib import Path


class PlanRow(BaseModel):
    """One line of a plan set's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    tools: tuple[ToolSpec, ...]
    max_steps: int | None = Field(default=None)
    plan: str  # ReWOO text
    family: str | None = None  # see question_sets.py; here all are one set

    def read(self) -> PlanTask:
        """The task; ValueError for a request that no planner takes, or a plan with a problem under it."""
        steps = {} if self.max_steps is None else {"max_steps": self.max_steps}
        request = PlannerInput.model_validate({"task": self.task, "tools": self.tools, **steps})
        reference = parse(self.plan)
        if problems := reference.problems(request.tools, request.evidence, max_steps=request.max_steps):
            first = problems[0]
            unquoted = f"the plan is not valid: {first.kind.replace('_', ' ')}"
            raise RowFault(
                f"the plan is not valid: {first.message}",
                f"{unquoted} at {first.step[:12]}" if first.step else unquoted,
            )
        return PlanTask(request, reference)


def read_plans(path: Path, *, limit: int | None = None, seed: int = 0) -> PlanSet:
    """Read a ``.jsonl`` of ``PlanRow``; the set is named after the file.

    ``limit``: a sample of at most so many. Raises ConfigError for a file that is missing or empty, and names
    the line of a row that is not as it must be.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} plans leaves none", hint="give at least 1")
    tasks = []
    for number, row in jsonl_rows(path):
        with at_line(path, number):
            tasks.append(PlanRow.model_validate(row).read())
    if not tasks:
        raise ConfigError(f"{path} has no plan", hint="an evaluation needs at least one in each set")
    return PlanSet(path.stem, sampled(tasks, limit, seed))
