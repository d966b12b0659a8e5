"""What suites of vLLM, SGLang and llama.cpp ask of any such server; README.md says what is left out."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE
from request_kinds import ASK, CHAT, SAY, TEXT

BROKEN = [
    ({"messages": None}, "messages"),
    ({"messages": [{}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
    ({"messages": [{"role": "tool", "content": "4"}]}, "messages[0].tool_call_id"),
    ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
    ({"response_format": {"type": "sonnet"}}, "response_format.type"),
    ({"json_schema": {"type": "object"}}, "json_schema"),
    ({"grammar": 'root ::= "a"'}, "grammar"),
    ({"regex": "a+"}, "regex"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"function_call": "auto"}, "function_call"),
    ({"temprature": 1}, "temprature"),
]


@pytest.mark.parametrize(("changes", "param"), BROKEN)
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_wrong_is_a_400_with_its_place(served, app, changes, param, stream):
    """OpenAI's four fields, also of a stream."""
    call = AsgiCall(app, CHAT, {**ASK, **changes, "stream": stream})
    await call
    error = json.loads(call.text)["error"]
    assert (call.status, error["param"], error["type"]) == (400, param, "invalid_request_error")


@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK), (TEXT, SAY)])
async def test_the_first_model_of_the_list_answers(http, path, body):
    """The idiom of most examples."""
    first = (await http.get("/v1/models")).json()["data"][0]["id"]
    answer = (await http.post(path, json={**body, "model": first})).json()
    assert (first, answer["model"], len(answer["choices"])) == (BASE, BASE, 1)


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter", "/v1/unload_lora_adapter"])
async def test_adapters_are_not_a_clients_to_load(http, path):
    """404 that says what an operator does instead."""
    answer = await http.post(path, json={"lora_name": "x", "lora_path": "/x"})
    assert (answer.status_code, "`s3lora swap`" in answer.json()["error"]["message"]) == (404, True)
