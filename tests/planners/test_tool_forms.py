"""Tools as OpenAI, MCP and Anthropic write them."""

from __future__ import annotations

import pytest
from mcp import types
from pydantic import ValidationError

from planners import ToolSpec
from planners.client.asking import Question

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
FUNCTION = {"name": "web-search", "description": "finds facts", "parameters": SCHEMA}
MCP = {"name": "web-search", "description": "finds facts", "inputSchema": SCHEMA}
SHOWN = {"title": "Search", "annotations": {"readOnlyHint": True}, "outputSchema": SCHEMA, "_meta": {"a": 1}}


@pytest.mark.parametrize(
    "given",
    [
        FUNCTION,
        {"type": "function", "function": FUNCTION},
        {"type": "function", "function": {**FUNCTION, "strict": True}},
        {"type": "function", **FUNCTION, "strict": None},
        MCP,
        {**MCP, **SHOWN, "icons": [{"src": "data:"}], "execution": {"taskSupport": "forbidden"}},
        {"name": "web-search", "title": "finds facts", "inputSchema": SCHEMA},
        {"name": "web-search", "description": "finds facts", "input_schema": SCHEMA},
    ],
)
def test_one_tool_in_all_its_forms(given):
    """Name, description and schema are found; what says nothing to a planner is passed over."""
    assert ToolSpec.model_validate(given).model_dump() == FUNCTION


@pytest.mark.parametrize(
    "given",
    [
        {"type": "function", "function": {"name": "now"}},
        {"type": "function", "function": {"name": "now", "description": None, "parameters": None}},
        {"name": "now", "inputSchema": {"type": "object"}},
    ],
)
def test_a_function_without_parameters_takes_none(given):
    """It is called with JSON, as its owner calls it: an empty object. Our own form takes text then."""
    tool = ToolSpec.model_validate(given)
    assert (tool.arguments.problems({}), tool.description) == ((), "")
    assert tool.arguments.problems({"a": 1}) != ()
    assert ToolSpec(name="now").arguments is None


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"type": "web_search"},
            "a tool of type 'web_search': a plan names tools that are called by their name",
        ),
        ({"function": FUNCTION}, "a tool of type 'None'"),
        ({"type": "function", "function": "web-search"}, "'function' is no object"),
        (
            {"type": "function", "function": FUNCTION, "name": "x"},
            "'name' stands in the tool and in its 'function'",
        ),
        ({**MCP, "parameters": SCHEMA}, "inputSchema and parameters; keep one"),
        ({"type": "function", "function": {**FUNCTION, "guide": 1}}, "guide"),
        ({**MCP, "guide": 1}, "guide"),
        ({**FUNCTION, "annotations": {}}, "annotations"),
        ({**MCP, "inputSchema": {"type": "array"}}, "parameters of tool 'web-search': \\$"),
    ],
)
def test_what_is_no_such_tool_is_refused(given, why):
    """By the field that is at fault; nothing that could mean something is dropped."""
    with pytest.raises(ValidationError, match=why):
        ToolSpec.model_validate(given)


def test_the_client_takes_what_an_mcp_session_lists():
    """``client.plan(task, (await session.list_tools()).tools)``."""
    listed = types.Tool.model_validate({**MCP, **SHOWN})
    question = Question.of(
        "What?", [listed, "LLM", {"type": "function", "function": {"name": "now"}}], "p", {}
    )
    assert [tool.name for tool in question.request.tools] == ["web-search", "LLM", "now"]
    assert question.body(stream=False)["tools"][0]["parameters"] == SCHEMA
