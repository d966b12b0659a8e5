"""``tool_specs``: what LangChain takes for a tool, as plans can name it."""

from __future__ import annotations

from functools import partial
from typing import Literal

import pytest
from langchain_core.tools import StructuredTool, Tool, tool
from pydantic import BaseModel, Field

from planners import ToolSpec
from planners.langchain import tool_specs


@tool
def search(query: str) -> str:
    """Search the web."""
    return query


@tool(parse_docstring=True)
def calculate(a: float, b: float, operation: Literal["+", "-"] = "+", note: str | None = None) -> float:
    """Calculate.

    Args:
        a: first number
        b: second number
        operation: what to do
        note: why
    """
    return a + b if operation == "+" else a - b


class Book(BaseModel):
    """Book a table."""

    name: str
    guests: int = Field(2, description="how many")


def plain(text: str) -> str:
    """Say it."""
    return text


OPENAI = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Look outside.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo"]}}},
    },
}


@pytest.mark.parametrize(
    ("given", "name", "description"),
    [
        (search, "search", "Search the web."),
        (plain, "plain", "Say it."),
        (Tool(name="Old", func=plain, description="as it was"), "Old", "as it was"),
        (StructuredTool.from_function(plain, name="Say"), "Say", "Say it."),
        ("Bare", "Bare", ""),
        ({"name": "Dict", "description": "d"}, "Dict", "d"),
        (ToolSpec(name="Spec"), "Spec", ""),
    ],
)
def test_one_free_text_is_a_text_tool(given, name, description):
    """Its plans say ``name[text]``, which ``tool.invoke`` takes as it is."""
    assert tool_specs([given]) == (ToolSpec(name=name, description=description),)


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        (calculate, {"a", "b", "operation", "note"}),
        (Book, {"name", "guests"}),
        (OPENAI, {"city"}),
        ({"name": "Own", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}}, {"x"}),
    ],
)
def test_other_arguments_are_json(given, arguments):
    """Several arguments, numbers, or a choice; and one text, where the author wrote parameters."""
    (spec,) = tool_specs([given])
    assert (set(spec.parameters["properties"]), spec.arguments is not None) == (arguments, True)


def test_a_tool_without_arguments_takes_an_empty_object():
    """There is no text that it could take."""

    @tool
    def now() -> str:
        """Tell the time."""
        return "noon"

    (spec,) = tool_specs([now])
    assert (spec.parameters["properties"], spec.arguments.problems({}, ())) == ({}, ())


def dashed():
    """A tool whose name no plan can have."""
    return StructuredTool.from_function(plain, name="web search")


class Deep(BaseModel):
    """Too much."""

    when: dict[str, int]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([dashed()], r"tool name 'web search': .* such as 'web_search'"),
        ([{"name": "-2nd"}], "such as '2nd'"),
        (
            [Tool(name="Long", func=plain, description="x" * 1025)],
            r"'Long': description: .* 1024 characters, not 1025",
        ),
        ([search, search], "'search' is offered more than once"),
        ([Deep], "'Deep'"),
        ([7], "tool 7: LangChain cannot describe it"),
        ([partial(plain, "x")], "LangChain cannot describe it"),
    ],
)
def test_what_no_plan_can_use_is_refused_by_name(given, why):
    """With the next step: another name, a shorter description, a ToolSpec."""
    with pytest.raises(ValueError, match=why):
        tool_specs(given)
