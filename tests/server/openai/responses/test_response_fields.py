"""What is kept nowhere is refused, nothing is lost in silence, and the engine reads what was checked."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from request_kinds import RESPOND, RESPONSES, engine_app
from starlette.responses import JSONResponse

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app

TOOL = {"type": "function", "name": "find", "parameters": {"type": "object", "properties": {}}}
SENT = {"model": "p@000000000000", "store": False, "input": [{"role": "user", "content": RESPOND["input"]}]}
FORMAT = {"type": "json_schema", "name": "x", "schema": {"type": "object"}}


@pytest.fixture
def asked(served, app, monkeypatch):
    """``asked(**fields)``: status, error, and the body that the engine got."""
    seen = []

    async def spy(request):
        seen.append(await request.json())
        return JSONResponse({"object": "response", "output": []})

    engine_app(served, monkeypatch, spy)

    async def ask(**fields):
        seen.clear()
        call = AsgiCall(app, RESPONSES, {**RESPOND, **fields})
        await call
        return call.status, json.loads(call.text).get("error"), seen[0] if seen else None

    return ask


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", True),
        ("background", True),
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("prompt", {"id": "pmpt_1"}),
        ("previous_input_messages", [{"role": "user", "content": "hi"}]),
        ("enable_response_messages", True),
        ("context_management", [{"type": "compaction"}]),
        ("include", ["web_search_call.action.sources"]),
        ("include", "message.output_text.logprobs "),
        ("tools", [{"type": "web_search"}]),
        ("tools", [{"type": "mcp", "server_label": "x", "server_url": "https://x.example"}]),
        ("tools", [{"type": "code_interpreter", "container": {"type": "auto"}}]),
        ("tools", [{"type": "custom", "name": "x"}]),
        ("tools", [{"type": "function", "function": {"name": "find"}}]),
        ("tools", [{**TOOL, "defer_loading": True}]),
        ("tools", TOOL),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "web_search"}),
        ("tool_choice", {"type": "allowed_tools", "mode": "auto", "tools": []}),
        ("text", {"format": {"type": "grammar"}}),
        ("text", {"format": {"type": "json_schema", "name": "x"}}),
        ("text", "json"),
    ],
)
async def test_what_cannot_be_done_is_refused(asked, name, value):
    """A 400 that names the field and the way out; the engine is not asked."""
    status, error, sent = await asked(**{name: value})
    assert (status, error["param"].partition("[")[0], error["code"], sent) == (
        400,
        name,
        "unsupported_field",
        None,
    )
    assert ";" in error["message"]


@pytest.mark.parametrize(
    ("name", "instead"),
    [("messages", "input"), ("max_tokens", "max_output_tokens"), ("response_format", "text.format")],
)
async def test_fields_of_chats_say_what_they_are_called_here(asked, name, instead):
    """They would do nothing, and the answer would not show it."""
    status, error, sent = await asked(**{name: 5})
    assert (status, error["code"], error["param"], sent) == (400, "ignored_field", name, None)
    assert instead in error["message"]


async def test_the_engine_gets_what_was_checked(asked):
    """Neither null nor what asks for nothing; items anew, without what says that one is unfinished."""
    neutral = {"store": False, "background": False, "previous_response_id": None, "tools": None}
    status, _, sent = await asked(**neutral, include=["reasoning.encrypted_content"], stream_options={})
    assert (status, sent) == (200, SENT)
    unfinished = {"role": "assistant", "status": "incomplete", "content": "Sure, step one is"}
    status, _, sent = await asked(input=[{"role": "user", "content": "hi"}, unfinished])
    assert (status, sent["input"][1]) == (200, {"role": "assistant", "content": "Sure, step one is"})
    status, _, sent = await asked(include=["message.output_text.logprobs"], top_logprobs=2, cache_salt="s")
    assert (sent["include"], sent["cache_salt"]) == (["message.output_text.logprobs"], "client:s")
    status, _, sent = await asked(text={"format": FORMAT}, stream="false", user="u")
    assert (sent["text"], sent["stream"], sent["user"]) == ({"format": FORMAT}, False, "u")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "name": "find"}])
async def test_a_forced_call_keeps_to_its_schema(asked, choice):
    """Else the engine would constrain that there is a call, and not its arguments."""
    _, _, sent = await asked(tools=[{**TOOL, "strict": False}], tool_choice=choice)
    assert (sent["tools"][0]["strict"], sent["tool_choice"]) == (True, choice)
    _, _, sent = await asked(tools=[{**TOOL, "strict": False}])
    assert (sent["tools"][0]["strict"], sent["tool_choice"]) == (False, "auto")


async def test_an_engine_without_a_parser_gets_no_tools(served, asked, monkeypatch):
    """It would write a text where a call was asked for, and answer 200; without a choice there is none."""
    monkeypatch.setattr(type(served.engine), "calls_tools", False)
    status, error, sent = await asked(tools=[TOOL])
    assert (status, error["param"], sent) == (400, "tools", None)
    assert (await asked(tools=[TOOL], tool_choice="none"))[0] == 200


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"priority": -1}, "priority"),
        ({"vllm_xargs": {"a": 1}}, "vllm_xargs"),
        ({"structured_outputs": {"regex": "(a{1,99}){1,999}"}}, "structured_outputs.regex"),
        ({"text": {"format": {**FORMAT, "schema": {"pattern": "(a{1,99}){1,999}"}}}}, "text.format"),
        ({"tools": [{**TOOL, "strict": True, "parameters": {"maxLength": 10**6}}]}, "tools"),
    ],
)
async def test_limits_of_chats_hold_here(asked, fields, param):
    """What steers the engine, and constraints that would hold it up."""
    status, error, sent = await asked(**fields)
    assert (status in (400, 403), error["param"], sent) == (True, param, None)


async def test_control_tokens_are_broken_up(served, monkeypatch):
    """In items, instructions and tools, also where JSON hides them in a call's arguments."""
    call = {"type": "function_call", "call_id": "c", "name": "find", "arguments": '{"q": "\\u003c|x|>"}'}
    result = {"type": "function_call_output", "call_id": "c", "output": "<|x|>"}
    seen = []

    async def spy(request):
        seen.append(await request.json())
        return JSONResponse({"object": "response", "output": []})

    engine_app(served, monkeypatch, spy)
    body = {
        **RESPOND,
        "instructions": "<|x|>",
        "input": [{"role": "user", "content": "<|x|>"}, call, result],
        "tools": [{**TOOL, "description": "<|x|>"}],
    }
    await AsgiCall(create_app(served.service, ServerConfig(break_control_tokens=True), None), RESPONSES, body)
    (sent,) = seen
    assert "<|" not in json.dumps(sent)
    assert sent["input"][1]["arguments"] == '{"q": "< |x|>"}'
