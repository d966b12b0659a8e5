"""ChatS3LoRA on the real engine: plans under their grammar, and metadata where openai rebuilds the stream."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from planners import ToolSpec
from planners.langchain import ChatS3LoRA, plan_of

pytestmark = pytest.mark.engine

TASK = "Who directed Inception, and where was that person born?"
TOOLS = (ToolSpec(name="Search", description="search the web"), ToolSpec(name="LLM"))


class City(BaseModel):
    """A city."""

    name: str
    large: bool


Small = Annotated[int, Field(ge=0, le=99)]


@tool
def add(a: Small, b: Small) -> int:
    """Add two numbers."""
    return a + b


@tool
def customer(name: Literal['你好啊集团 "こんにちは"'], city: str) -> str:
    """Create a customer."""
    return f"{name}: {city}"


@pytest.fixture
def model(live):
    return ChatS3LoRA(
        model=live.planner, base_url=live.url, api_key=live.key, temperature=0, max_text=16, timeout=300
    )


@pytest.fixture
def calling(model, no_blanks):
    """The model, whose JSON ends: a tool call or structured output is whole, whatever it says."""
    return model.model_copy(update={"logit_bias": no_blanks})


def whole_and_streamed(model, *asked):
    """The answer in one, and its chunks put together."""
    chunks = list(model.stream(*asked))
    return model.invoke(*asked), sum(chunks[1:], start=chunks[0])


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
    assert len(chunks) > 1


async def test_the_planners_own_tools_are_the_default(model):
    """Without tools the server's are used, awaited as well, also with JSON arguments when they are given."""
    own = plan_of(await model.with_plan(max_steps=1).ainvoke(TASK))
    assert own.problems(TOOLS) == ()
    (step,) = plan_of(await model.with_plan([add], max_steps=1).ainvoke("What is 2 plus 3?")).steps
    assert (step.tool, sorted(step.arguments)) == ("add", ["a", "b"])


def test_structured_output_streams_with_metadata(calling, live):
    """openai's client puts this stream together itself; all metadata arrives, and none of it twice."""
    structured = calling.with_structured_output(City, include_raw=True)
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


def test_forced_tools_have_arguments_that_fit(calling):
    """tool_choice names the tool, and strict holds its arguments to the schema."""
    for message in whole_and_streamed(
        calling.bind_tools([add, customer], tool_choice="add"), "Two and three?"
    ):
        (call,) = message.tool_calls
        assert (call["name"], sorted(call["args"]), message.invalid_tool_calls) == ("add", ["a", "b"], [])
        assert all(0 <= value <= 99 for value in call["args"].values())


def test_arguments_keep_their_script(calling):
    """Chinese, Japanese and quotes come through as they are, whole and streamed."""
    for message in whole_and_streamed(
        calling.bind_tools([customer], tool_choice="customer"), "Create a customer."
    ):
        assert message.tool_calls[0]["args"]["name"] == '你好啊集团 "こんにちは"'


def test_an_agent_goes_round(model, calling):
    """A forced call, the tool's result with its id, and an answer to both."""
    asked = HumanMessage("What is two and three?")
    called = calling.bind_tools([add], tool_choice="add").invoke([asked])
    result = add.invoke(called.tool_calls[0])
    assert result.tool_call_id == called.tool_calls[0]["id"]
    words = model.bind(extra_body={"structured_outputs": {"regex": "[a-z]{2,9}"}})
    answer = words.invoke([asked, called, result])
    assert (answer.content.isalpha(), answer.response_metadata["finish_reason"]) == (True, "stop")
