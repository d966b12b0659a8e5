"""Messages and tools that are none are refused in a sentence, with the place as OpenAI writes it."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from request_kinds import ASK, CHAT, held

from s3lora_serve.server.openai.fields.chat_shapes import check_chat, check_shapes
from s3lora_serve.server.validation import RequestRefused

USER = {"role": "user", "content": "x"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def message(**said):
    """Of a user, with these fields."""
    return {"messages": [USER, {"role": "user", **said}]}


def tools(*given):
    """A chat with these."""
    return {"messages": [USER], "tools": list(given)}


def calling(**function):
    """An assistant's message with a call of this function."""
    call = {**CALL, "function": {"name": "f", "arguments": "{}"} | function}
    return {"messages": [USER, {"role": "assistant", "tool_calls": [call]}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [7]}, "messages[0]"),
        ({"messages": [{}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        (message(), "messages[1].content"),
        (message(content=None), "messages[1].content"),
        (message(content=7), "messages[1].content"),
        (message(content=[7]), "messages[1].content[0]"),
        (message(content=[{}]), "messages[1].content[0].type"),
        (message(content=["x", {"type": "text"}]), "messages[1].content[1].text"),
        (message(content=[{"type": "text", "text": None}]), "messages[1].content[0].text"),
        (message(content=[{"type": 7}]), "messages[1].content[0].type"),
        (message(role="system", content=None), "messages[1].content"),
        (message(role="assistant", content=None), "messages[1].content"),
        (message(role="assistant", content=None, tool_calls=[]), "messages[1].content"),
        (message(role="tool", content="x"), "messages[1].tool_call_id"),
        (message(role="tool", tool_call_id="c"), "messages[1].content"),
        (message(role="assistant", tool_calls=7), "messages[1].tool_calls"),
        (message(role="assistant", tool_calls=[{}]), "messages[1].tool_calls[0].function.name"),
        (calling(arguments="{"), "messages[1].tool_calls[0].function.arguments"),
        (calling(arguments=7), "messages[1].tool_calls[0].function.arguments"),
        (tools(7), "tools[0]"),
        (tools(TOOL, {}), "tools[1].function"),
        (tools({"function": {}}), "tools[0].function.name"),
        (tools({"type": "web_search"}), "tools[0].type"),
        (tools({"function": {"name": "f", "parameters": []}}), "tools[0].function.parameters"),
    ],
)
def test_what_is_no_chat_is_refused_where_it_stands(body, param):
    """vLLM answers many of these with a list of its types, or with a Python exception's text."""
    with pytest.raises(RequestRefused) as refused:
        check_chat(body)
    error = refused.value
    assert (error.status, error.reason, error.param) == (400, "invalid_request", param)
    assert str(error).startswith(f"{param}: must ") or str(error).startswith(f"{param}: is required")


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [USER]},
        message(content=""),
        message(
            content=["x", {"type": "text", "text": "y"}, {"type": "image_url", "image_url": {"url": "u"}}]
        ),
        message(content=[{"image_url": "u"}]),
        message(role="assistant", content=None, tool_calls=[CALL]),
        message(role="assistant", content=None, refusal="no"),
        message(role="tool", content="4", tool_call_id="c"),
        message(role="ipython", content=None),
        calling(arguments=""),
        calling(arguments={"a": 1}),
        tools(TOOL, {"function": {"name": "g"}}),
        {"messages": [USER], "tools": None},
    ],
)
def test_a_chat_passes(body):
    """Also roles that only some templates know, and parts without a type, which the engine tells apart."""
    assert check_chat(body) is None


@pytest.mark.parametrize(
    "name", ["stream_options", "response_format", "structured_outputs", "logit_bias", "tools", "tool_choice"]
)
def test_fields_are_of_their_json_type(name):
    """vLLM looks into them before it looks at their types, and fails."""
    with pytest.raises(RequestRefused, match=f"^{name}: must be ") as refused:
        check_shapes({name: 7})
    assert (refused.value.param, check_shapes({name: None})) == (name, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_it_reaches_no_planner(served, app, stream):
    """Over HTTP: OpenAI's shape, and no lease."""
    call = AsgiCall(app, CHAT, {**ASK, "messages": [{}], "stream": stream})
    await call
    assert (call.status, json.loads(call.text)["error"]["param"], held(served)) == (
        400,
        "messages[0].role",
        (0, 0),
    )
