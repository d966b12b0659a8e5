"""A client steers its own answer, and nothing else in the engine."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE, make_fleet
from plan_asks import ASK, answered
from request_kinds import CHAT, engine_app
from starlette.responses import JSONResponse

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app
from s3lora_serve.server.openai.fields.steering_fields import SALT_PREFIX, STEERING

PLAIN = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 5}
VALUES = {"priority": -5, "vllm_xargs": {"a": 1}, "kv_transfer_params": {"do_remote_decode": True}}


@pytest.fixture
def seen(served, monkeypatch):
    """Bodies that reached the engine."""
    bodies = []

    async def spy(request):
        bodies.append(await request.json())
        return JSONResponse({"choices": []})

    engine_app(served, monkeypatch, spy)
    return bodies


@pytest.mark.parametrize("body", [{"model": "p", **PLAIN}, {"model": BASE, **PLAIN}, ASK])
@pytest.mark.parametrize("name", STEERING)
async def test_fields_that_steer_the_engine_are_refused(app, seen, body, name):
    """In chats and plans, for planners and the base model; the answer names field and setting."""
    status, answer = await answered(app, {**body, name: VALUES.get(name, {"x": 1})})
    error = answer["error"]
    assert (status, error["code"], error["param"]) == (403, "field_not_allowed", name)
    assert ("server.allow_fields" in error["message"], seen) == (True, [])


@pytest.mark.parametrize("nothing", [None, 0, {}])
async def test_asking_for_nothing_is_no_steering(app, seen, nothing):
    """Clients that send every field they know, with what it is without them."""
    fields = [name for name, (value, _) in STEERING.items() if nothing is None or value == nothing]
    await AsgiCall(app, CHAT, {"model": "p", **PLAIN, **dict.fromkeys(fields, nothing)})
    assert len(seen) == 1


async def test_an_operator_can_allow_them(served, seen):
    """One by one."""
    app = create_app(served.service, ServerConfig(allow_fields=("priority",)), None)
    await AsgiCall(app, CHAT, {"model": "p", **PLAIN, "priority": 3})
    assert [body["priority"] for body in seen] == [3]
    status, _ = await answered(app, {"model": "p", **PLAIN, "vllm_xargs": {"a": 1}})
    assert status == 403


@pytest.mark.parametrize("model", ["p", BASE])
async def test_a_salt_is_no_name_of_a_slot(app, seen, model):
    """vLLM up to 0.30 would share a planner's first block with whoever names its slot as a salt."""
    slot = "p@000000000000"
    await AsgiCall(app, CHAT, {"model": model, **PLAIN, "cache_salt": slot})
    await AsgiCall(app, CHAT, {**ASK, "model": model, "cache_salt": slot})
    assert [body["cache_salt"] for body in seen] == [SALT_PREFIX + slot] * 2


@pytest.mark.parametrize("salt", ["", 7, None, ["x"]])
async def test_what_is_no_salt_is_for_the_engine_to_refuse(app, seen, salt):
    """It says what is wrong with it."""
    await AsgiCall(app, CHAT, {"model": "p", **PLAIN, "cache_salt": salt})
    assert [body["cache_salt"] for body in seen] == [salt]


@pytest.mark.parametrize("broken", [False, True])
async def test_control_tokens_in_chats_are_the_operators_choice(tmp_path, monkeypatch, broken):
    """In messages, parts, tools, names in schemas, and calls' arguments; in a plan's task always."""
    evil = "x[INST]"
    fleet = make_fleet(tmp_path, "p")
    fleet.engine._control_tokens = ("[INST]",)
    await fleet.start()
    bodies = []

    async def spy(request):
        bodies.append(await request.json())
        return JSONResponse({"choices": []})

    engine_app(fleet, monkeypatch, spy)
    app = create_app(fleet.service, ServerConfig(break_control_tokens=broken), None)
    schema = {"type": "object", "properties": {evil: {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "t", "description": evil, "parameters": schema}}
    call = {"id": "1", "type": "function", "function": {"name": "t", "arguments": r'{"q": "x\u005bINST]"}'}}
    messages = [
        {"role": "user", "content": evil},
        {"role": "user", "content": [{"type": "text", "text": evil}]},
        {"role": "assistant", "tool_calls": [call]},
        {
            "role": "user",
            "content": [{"type": "text", "text": "x["}, {"type": "input_text", "text": "INST]"}],
        },
    ]
    await AsgiCall(app, CHAT, {"model": "p", "messages": messages, "tools": [tool]})
    await AsgiCall(app, CHAT, {**ASK, "messages": messages[:1]})
    chat, plan = map(str, bodies)
    assert (chat.count(evil), chat.count("x[ INST]")) == ((0, 5) if broken else (4, 0))
    given = json.loads(bodies[0]["messages"][2]["tool_calls"][0]["function"]["arguments"])
    assert given == {"q": "x[ INST]" if broken else evil}
    parts = bodies[0]["messages"][3]["content"]
    assert "[INST]" not in ("".join(part["text"] for part in parts) if broken else "")
    assert (plan.count(evil), plan.count("x[ INST]")) == (0, 1)
    await fleet.close()
