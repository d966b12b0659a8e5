"""langchain_experimental's PlanAndExecute, planned for by a served planner."""

from __future__ import annotations

import subprocess
import sys

import pytest
from langchain_experimental.plan_and_execute import PlanAndExecute
from langchain_experimental.plan_and_execute.executors.base import BaseExecutor
from langchain_experimental.plan_and_execute.schema import StepResponse
from threaded_server import threaded_server

from planners.langchain import S3LoRAPlanner
from planners.langchain.base_planner import S3LoRABasePlanner


class Runs(BaseExecutor):
    """Runs the planned tool: it says what it was given, with earlier results put in."""

    def step(self, inputs, callbacks=None, **kwargs):
        planned = inputs["current_step"].planned
        text = planned.tool_input
        for earlier, response in inputs["previous_steps"].get_steps():
            text = text.replace(earlier.planned.id, response.response)
        return StepResponse(response=f"{planned.tool}({text})")

    async def astep(self, inputs, callbacks=None, **kwargs):
        return self.step(inputs)


@pytest.fixture
def planner(tmp_path):
    """Fills PlanAndExecute's place."""
    with threaded_server(tmp_path, "p") as server:
        yield S3LoRABasePlanner(
            planner=S3LoRAPlanner(base_url=server.url, planner="p", tools=["Search", "LLM"])
        )


async def test_plan_and_execute_runs_the_plan(planner):
    """Steps run in order, each with the results before it; sync and async end with the same answer."""
    sync = PlanAndExecute(planner=planner, executor=Runs()).invoke({"input": "Who?"})
    made = await PlanAndExecute(planner=planner, executor=Runs()).ainvoke({"input": "Who?"})
    assert [sync["output"], made["output"]] == ["LLM(Search(the task))"] * 2


def test_a_step_can_be_read_by_an_executor_that_is_a_model(planner):
    """Its line has the id that later lines refer to, the thought and the call."""
    first, second = planner.plan({"input": "Who?"}).steps
    assert first.value == f"#E1: {first.planned.thought} Use Search: the task"
    assert (second.value.startswith("#E2: "), second.value.endswith("Use LLM: #E1")) == (True, True)


def test_another_input_must_be_named(planner):
    """A chain whose task has another key is told so."""
    with pytest.raises(ValueError, match="input 'input' is missing; given: 'question'; set input_key"):
        planner.plan({"question": "Who?"})


def test_the_missing_package_is_named():
    """It is no part of the extra, since few need it."""
    code = "import sys; sys.modules['langchain_experimental'] = None\nimport planners.langchain.base_planner"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install langchain-experimental" in done.stderr
