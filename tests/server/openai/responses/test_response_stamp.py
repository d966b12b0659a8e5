"""A response says who answered and what it cost, whole and streamed, and an error ends a stream as such."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE
from request_kinds import RESPOND, RESPONSES, engine_app, until
from starlette.responses import StreamingResponse

from planners import Plan
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.server.openai.responses.response_stamp import ResponseStamp
from s3lora_serve.server.openai.stamp import Origin

PLANNED = {**RESPOND, "s3lora": {"plan": {"tools": [{"name": "Search"}, {"name": "LLM"}]}}}


def typed_events(call):
    """The events, each under the name that is its type, numbered."""
    lines = [line.removeprefix("event: ") for line in call.text.splitlines() if line.startswith("event: ")]
    events = [json.loads(event) for event in call.events]
    assert [event["type"] for event in events] == lines
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


@pytest.mark.parametrize("model", ["p", "h", BASE])
async def test_a_stream_ends_with_what_a_whole_response_says(served, app, model):
    """Planner, cost and usage; the public name wherever the model is named, and what the client sent."""
    ask = {**RESPOND, "model": model, "instructions": "<|be|> short"}
    whole, stream = AsgiCall(app, RESPONSES, ask), AsgiCall(app, RESPONSES, {**ask, "stream": True})
    await whole
    await stream
    answer, events = json.loads(whole.text), typed_events(stream)
    last = events[-1]["response"]
    assert (whole.status, events[-1]["type"]) == (200, "response.completed")
    assert {e["response"]["model"] for e in events if "response" in e} == {answer["model"]} == {model}
    assert {e["response"]["instructions"] for e in events if "response" in e} == {"<|be|> short"}
    assert (answer["store"], last["store"], answer["instructions"]) == (False, False, "<|be|> short")
    for field in ("s3lora", "system_fingerprint", "status"):
        assert answer[field] == last[field]
    for one in (answer, last):
        assert one["cost"]["output_tokens"] == one["usage"]["output_tokens"] > 0
        assert one["usage"]["s3lora"]["cost"]["output_tokens"] == one["cost"]["output_tokens"]
    assert answer["s3lora"].get("planner") == (None if model == BASE else model)
    assert "@" not in stream.text + whole.text  # no slot's name
    assert int(whole.headers["content-length"]) == len(whole.text.encode())


def test_usage_holds_nothing_but_numbers():
    """vLLM has lists in its details, by turn; clients that check what they read fail on them."""
    usage = {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1, "cached_tokens_per_turn": [1]}}
    body = json.dumps({"object": "response", "output": [], "usage": usage, "input_messages": [{"a": 1}]})
    origin = Origin.of(None, BASE, EngineKind.VLLM)
    answer = json.loads(ResponseStamp(origin, [], None, None, {}).whole(body.encode()))
    assert answer["usage"]["input_tokens_details"] == {"cached_tokens": 1}
    assert "input_messages" not in answer


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_a_plan_where_one_is_asked_for(served, app, stream):
    """As a chat's would be; the planner's prompt is not repeated to the client."""
    call = AsgiCall(app, RESPONSES, {**PLANNED, "stream": stream})
    await call
    answer = typed_events(call)[-1]["response"] if stream else json.loads(call.text)
    plan = Plan.model_validate(answer["s3lora"]["plan"])
    assert plan.to_rewoo() == answer["output"][0]["content"][0]["text"]
    assert answer["instructions"] is None


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_response_says_so(served, app, stream):
    """Its status and, in a stream, its last event are OpenAI's; a plan in it has its problem."""
    call = AsgiCall(app, RESPONSES, {**PLANNED, "stream": stream, "max_output_tokens": 5})
    await call
    if stream:
        last = typed_events(call)[-1]
        assert last["type"] == "response.incomplete"
    answer = last["response"] if stream else json.loads(call.text)
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["s3lora"]["problems"][0]["kind"] == "truncated"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"instructions": "be short"}, "instructions"),
        ({"input": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "input"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"truncation": "auto"}, "truncation"),
    ],
)
async def test_what_would_fight_a_plan_is_refused(served, app, body, param):
    """By the name that the field has here."""
    call = AsgiCall(app, RESPONSES, {**PLANNED, **body})
    await call
    error = json.loads(call.text)["error"]
    assert (call.status, error["code"], error["param"]) == (400, "plan_conflict", param)


async def test_a_pinned_revision_holds_here(served, app):
    """As for a chat: 409 for any other."""
    call = AsgiCall(app, RESPONSES, {**RESPOND, "s3lora": {"revision": "f" * 12}})
    await call
    assert (call.status, json.loads(call.text)["error"]["code"]) == (409, "revision_mismatch")


async def test_a_dead_engine_ends_a_stream_with_an_error(served, app):
    """An event of OpenAI's type, numbered on; nothing follows it."""
    gate = served.engine.hold_requests("p@*")
    call = AsgiCall(app, RESPONSES, {**RESPOND, "stream": True})
    await until(lambda: gate.waiting)
    served.engine.die()
    await call
    last = typed_events(call)[-1]
    assert (last["type"], last["code"], last["error"]["code"]) == ("error", "engine_dead", "engine_dead")


async def test_the_engines_own_error_event_is_told_in_our_shape(served, app, monkeypatch):
    """Whatever name it has."""

    async def endpoint(request):
        events = (
            b'event: response.created\ndata: {"type":"response.created","sequence_number":0,'
            b'"response":{"model":"p@000000000000"}}\n\n',
            b'event: unknown\ndata: {"error": {"message": "no luck", "code": 500}}\n\n',
        )

        async def body():
            for event in events:
                yield event

        return StreamingResponse(body(), media_type="text/event-stream")

    engine_app(served, monkeypatch, endpoint)
    call = AsgiCall(app, RESPONSES, {**RESPOND, "stream": True})
    await call
    last = typed_events(call)[-1]
    assert (last["type"], last["code"], last["error"]["code"]) == ("error", "engine_error", "engine_error")
