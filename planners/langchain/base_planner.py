"""Planners in the place of langchain_experimental's: PlanAndExecute runs what they plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable  # noqa: TC002  (pydantic reads the annotations)
from pydantic import ConfigDict

from planners.step import PlanStep  # noqa: TC001

try:
    from langchain_experimental.plan_and_execute.planners.base import BasePlanner
    from langchain_experimental.plan_and_execute.schema import Plan as StepList
    from langchain_experimental.plan_and_execute.schema import Step
except ModuleNotFoundError as error:
    raise ImportError(
        f"{__name__} needs {error.name}: pip install langchain-experimental", name=error.name
    ) from error

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks

    from planners.plan import Plan


class PlannedStep(Step):
    """A step as PlanAndExecute's executors read it; ``planned`` is what it was made from."""

    planned: PlanStep


class S3LoRABasePlanner(BasePlanner):
    """Fills PlanAndExecute's ``planner`` with a runnable that plans, such as S3LoRAPlanner.

        agent = PlanAndExecute(planner=S3LoRABasePlanner(planner=S3LoRAPlanner(planner="p")), executor=...)

    An executor gets each step as one line, "#E2: thought Use Search: #E1 place of birth", and earlier steps
    with their results, so that an "#E1" in a line can be looked up. Steps run one after the other:
    PlanAndExecute knows no levels.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    planner: Runnable[Any, Any]
    input_key: str = "input"
    """Which of the chain's inputs is the task."""

    def plan(self, inputs: dict[str, Any], callbacks: Callbacks = None, **kwargs: Any) -> StepList:
        """A plan as lines. Raises what the runnable raises."""
        return _lines(self.planner.invoke(self._task(inputs), {"callbacks": callbacks}, **kwargs))

    async def aplan(self, inputs: dict[str, Any], callbacks: Callbacks = None, **kwargs: Any) -> StepList:
        """As ``plan``."""
        return _lines(await self.planner.ainvoke(self._task(inputs), {"callbacks": callbacks}, **kwargs))

    def _task(self, inputs: dict[str, Any]) -> Any:
        if self.input_key not in inputs:
            given = ", ".join(map(repr, inputs)) or "nothing"
            raise ValueError(f"input {self.input_key!r} is missing; given: {given}; set input_key")
        return inputs[self.input_key]


def _lines(plan: Plan) -> StepList:
    return StepList(steps=[PlannedStep(value=_line(step), planned=step) for step in plan.steps])


def _line(step: PlanStep) -> str:
    return f"{step.id}: {step.thought} Use {step.tool}: {step.tool_input}"
