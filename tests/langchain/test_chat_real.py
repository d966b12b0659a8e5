"""ChatS3LoRA on the real engine: plans under their grammar, and metadata where openai rebuilds the stream."""

from __future__ import annotations

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel

from planners import ToolSpec
from planners.langchain import ChatS3LoRA, plan_of

pytestmark = pytest.mark.engine

TASK = "Who directed Inception, and where was that person born?"
TOOLS = (ToolSpec(name="Search", description="search the web"), ToolSpec(name="LLM"))


class City(BaseModel):
    """A city."""

    name: str
    large: bool


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def model(live):
    return ChatS3LoRA(model=live.planner, base_url=live.url, api_key=live.key, temperature=0, max_text=32)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_plan_from_chat_is_valid(model, live, temperature):
    """Whole and streamed, greedy and sampled: no problems, and the meta names revision and cost."""
    planning = model.with_plan(TOOLS, max_steps=2)
    chunks = list(planning.stream(TASK, temperature=temperature, seed=5))
    messages = [planning.invoke(TASK, temperature=temperature), sum(chunks[1:], start=chunks[0])]
    for plan in map(plan_of, messages):
        assert (plan.problems(TOOLS, max_steps=2), plan.meta.planner) == ((), live.planner)
        assert plan.meta.revision == live.service.get(live.planner).revision.digest
        assert plan.meta.cost.engine_seconds > 0
    assert len(chunks) > 10


async def test_the_planners_own_tools_are_the_default(model):
    """Without tools the server's are used, awaited as well, also with JSON arguments when they are given."""
    own = plan_of(await model.with_plan(max_steps=1).ainvoke(TASK))
    assert own.problems(TOOLS) == ()
    (step,) = plan_of(await model.with_plan([add], max_steps=1).ainvoke("What is 2 plus 3?")).steps
    assert (step.tool, sorted(step.arguments)) == ("add", ["a", "b"])


def test_structured_output_streams_with_metadata(model, live):
    """openai's client puts this stream together itself; all metadata arrives, and none of it twice."""
    structured = model.with_structured_output(City, include_raw=True)
    parts = list(structured.stream("Name a city."))
    raws = [part["raw"] for part in parts if "raw" in part]
    raw = sum(raws[1:], start=raws[0])
    assert [part["parsed"] for part in parts if part.get("parsed")][-1] == City.model_validate_json(
        raw.content
    )
    assert raw.response_metadata["s3lora"]["planner"] == live.planner
    assert (raw.response_metadata["model_name"], raw.response_metadata["model_provider"]) == (
        live.planner,
        "s3lora",
    )
    assert raw.response_metadata["cost"]["output_tokens"] == raw.usage_metadata["output_tokens"]


def test_forced_tools_have_arguments_that_fit(model):
    """tool_choice names the tool, and strict holds its arguments to the schema.

    The penalty is on the blanks that JSON may hold between its parts, of which the model would write no end.
    """
    adding = model.bind_tools([add], tool_choice="add")
    message = adding.invoke("Add two and three.", frequency_penalty=1.0, max_tokens=100)
    (call,) = message.tool_calls
    assert (call["name"], {name: type(value) for name, value in call["args"].items()}) == (
        "add",
        {"a": int, "b": int},
    )
