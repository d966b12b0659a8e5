"""Functions whose calls must fit their schema are strict when the engine sees them, and no others."""

from __future__ import annotations

import pytest
from asgi_call import AsgiCall
from request_kinds import ASK, CHAT, TEXT, engine_app
from starlette.responses import JSONResponse

from s3lora_serve.server.openai.fields.tool_strictness import with_strict_tools

FITS = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
ADD = {"type": "function", "function": {"name": "add", "parameters": FITS}}
NAMED = {"type": "function", "function": {"name": "add"}}


def strict(tool, **changes):
    """The tool as the engine shall see it."""
    return {**tool, "function": {**tool["function"], **changes, "strict": True}}


def function(**said):
    """A tool of this function."""
    return {"type": "function", "function": {"name": "f", **said}}


@pytest.mark.parametrize("choice", ["required", NAMED])
@pytest.mark.parametrize("said", [{}, {"strict": None}, {"strict": False}, {"strict": True}])
def test_a_forced_call_fits_whatever_the_client_said(choice, said):
    """Every function of the request, since the model chooses among them."""
    tools = [function(parameters=FITS, **said), ADD]
    asked = with_strict_tools({"model": "p", "tool_choice": choice, "tools": tools})
    assert asked == {"model": "p", "tool_choice": choice, "tools": [strict(tool) for tool in tools]}


@pytest.mark.parametrize("choice", [{}, {"tool_choice": None}, {"tool_choice": "auto"}])
def test_where_the_model_chooses_the_client_says_which_are_strict(choice):
    """The others are left as they are."""
    tools = [function(parameters=FITS, strict=True), function(parameters=FITS, strict=False), ADD]
    assert with_strict_tools({**choice, "tools": tools}) == {**choice, "tools": tools}


def test_without_calls_nothing_changes():
    """Neither where none may be made nor where there are no tools."""
    for fields in ({"tool_choice": "none", "tools": [ADD]}, {"tools": None}, {"tools": 7}, {}):
        assert with_strict_tools(fields) == fields


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, {"type": "object", "properties": {}}),
        ({"parameters": None}, {"type": "object", "properties": {}}),
        ({"parameters": {}}, {"type": "object", "properties": {}}),
        ({"parameters": {"properties": {"a": {}}}}, {"type": "object", "properties": {"a": {}}}),
        ({"parameters": {"$ref": "#/$defs/A", "$defs": {}}}, {"$ref": "#/$defs/A", "$defs": {}}),
        ({"parameters": {"anyOf": [FITS]}}, {"anyOf": [FITS]}),
    ],
)
@pytest.mark.parametrize("choice", ["required", "auto"])
def test_arguments_are_an_object_also_where_none_are_named(given, seen, choice):
    """Without a schema any JSON would do, and a client reads an object."""
    tool = function(strict=True, **given)
    asked = with_strict_tools({"tool_choice": choice, "tools": [tool]})
    assert asked["tools"] == [strict(tool, parameters=seen)]


@pytest.mark.parametrize("tools", [[7], [{}], [{"function": 7}], [{"type": "web_search"}]])
def test_what_is_no_function_is_left_to_be_refused(tools):
    """Nothing is made up for it."""
    assert with_strict_tools({"tool_choice": "required", "tools": tools})["tools"] == tools


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "seen"), [(CHAT, strict(ADD)), (TEXT, None)])
async def test_the_engine_is_told(served, app, monkeypatch, path, seen, stream):
    """Over HTTP, streamed and not; a completion has no tools."""
    asked = []

    async def spy(request):
        asked.append(await request.json())
        return JSONResponse({"choices": []})

    engine_app(served, monkeypatch, spy)
    body = {**ASK, "prompt": "x", "stream": stream}
    if seen is not None:
        body |= {"tools": [ADD], "tool_choice": "required"}
    await AsgiCall(app, path, body)
    assert asked[0].get("tools") == (None if seen is None else [seen])
