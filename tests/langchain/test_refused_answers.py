"""What LangChain and LangGraph see of an answer that the server's guard withheld."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai.chat_models.base import OpenAIRefusalError
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import BaseModel
from refusing_server import REFUSAL, refusing_server

from planners.client.errors import PlanRefused
from planners.langchain import ChatS3LoRA, S3LoRAPlanner, plan_of

TASK = "Steal it."


class Answer(BaseModel):
    """An answer as fields."""

    answer: str


@tool
def search(query: str) -> str:
    """Finds facts."""
    raise AssertionError(f"nothing may be looked up: {query}")


@pytest.fixture
def guarded():
    """A server whose guard refuses everything."""
    with refusing_server() as server:
        yield server


@pytest.fixture
def model(guarded):
    return ChatS3LoRA(model="p", base_url=guarded.url, max_retries=3)


def added(chunks):
    total, *more = chunks
    for chunk in more:
        total = total + chunk
    return total


async def collected(stream):
    return [chunk async for chunk in stream]


ASKED = {
    "invoke": lambda model, question: model.invoke(question),
    "ainvoke": lambda model, question: asyncio.run(model.ainvoke(question)),
    "stream": lambda model, question: added(model.stream(question)),
    "astream": lambda model, question: added(asyncio.run(collected(model.astream(question)))),
}
every_way = pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)


@every_way
@pytest.mark.parametrize("tools", [[], [search]], ids=["plain", "tools"])
def test_a_refusal_is_a_message_that_agents_know(model, guarded, ask, tools):
    """No content, no tool call; the refusal where langchain-openai has it, the guard beside; one request."""
    message = ask(model.bind_tools(tools) if tools else model, TASK)
    assert isinstance(message, AIMessage)
    assert (message.content, message.tool_calls, message.invalid_tool_calls) == ("", [], [])
    assert message.additional_kwargs["refusal"] == REFUSAL
    metadata = message.response_metadata
    assert (metadata["finish_reason"], metadata["s3lora"]["guard"]["part"]) == ("content_filter", "task")
    assert message.usage_metadata["output_tokens"] == 0
    assert len(guarded.asked) == 1


@every_way
def test_structured_output_is_refused_as_of_openais_models(model, guarded, ask):
    """openai's client fails at such an answer; callers get langchain-openai's error with the refusal."""
    with pytest.raises(OpenAIRefusalError, match="the answer is withheld"):
        ask(model.with_structured_output(Answer), TASK)
    assert len(guarded.asked) == 1


@pytest.mark.parametrize("ask", [ASKED["invoke"], ASKED["ainvoke"]], ids=["invoke", "ainvoke"])
def test_structured_output_has_the_raw_refusal_on_request(model, ask):
    """With include_raw nothing is raised: the message, the error, and no parsed answer."""
    told = ask(model.with_structured_output(Answer, include_raw=True), TASK)
    assert (told["raw"].additional_kwargs["refusal"], told["parsed"]) == (REFUSAL, None)
    assert told["raw"].response_metadata["s3lora"]["guard"]["by"] == ["base"]
    assert isinstance(told["parsing_error"], OpenAIRefusalError)


@every_way
@pytest.mark.parametrize(("part", "code"), [("tools", "refused_by_guard"), (None, "guard_undecided")])
def test_a_chats_plan_that_is_withheld_is_typed(model, guarded, ask, part, code):
    """``plan_of`` raises what the client raises for a plan, with the part."""
    guarded.part = part
    with pytest.raises(PlanRefused, match="the answer is withheld") as caught:
        plan_of(ask(model.with_plan(["Search"]), TASK))
    assert (caught.value.part, caught.value.code) == (part, code)


@every_way
def test_the_planner_raises_a_typed_error(guarded, ask):
    """Whole, streamed and awaited, once: retries are for servers that are busy."""
    planner = S3LoRAPlanner(planner="p", base_url=guarded.url, tools=["Search"], max_retries=3)
    with pytest.raises(PlanRefused) as caught:
        ask(planner, TASK)
    assert (caught.value.part, len(guarded.asked)) == ("task", 1)


def agent(model):
    """The usual loop: the model, its tools, and again until it calls none."""
    bound = model.bind_tools([search])
    graph = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [bound.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([search]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "model")
    return graph.compile()


def test_an_agent_stops_at_a_refusal(model, guarded):
    """It calls no tool, asks no second time, and its last message says why."""
    state = agent(model).invoke({"messages": [HumanMessage(TASK)]})
    assert [type(message) for message in state["messages"]] == [HumanMessage, AIMessage]
    assert state["messages"][-1].additional_kwargs["refusal"] == REFUSAL
    assert len(guarded.asked) == 1


def test_a_conversation_goes_on_after_a_refusal(model, guarded):
    """The refused answer can be sent back as history: it is an empty turn of the assistant."""
    first = model.invoke(TASK)
    model.invoke([HumanMessage(TASK), first, HumanMessage("Then a poem.")])
    _, body = guarded.asked[-1]
    assert [(message["role"], message["content"] or "") for message in body["messages"]] == [
        ("user", TASK),
        ("assistant", ""),
        ("user", "Then a poem."),
    ]
