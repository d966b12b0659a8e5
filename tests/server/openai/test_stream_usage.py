"""Streams name planner and revision on every chunk, and end with the cost, whatever the client asked."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE
from request_kinds import ASK, CHAT, SAY, TEXT, engine_app
from starlette.responses import JSONResponse

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.serving.answer_meta import fingerprint

OPTIONS = [
    {},
    {"stream_options": None},
    {"stream_options": {}},
    {"stream_options": {"include_usage": True}},
    {"stream_options": {"include_usage": False}},
    {"stream_options": {"include_usage": None, "continuous_usage_stats": True}},
]


@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK), (TEXT, SAY)])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("model", ["p", "h", BASE])
async def test_a_stream_ends_with_usage(served, app, path, body, options, model):
    """The last chunk has no choices, but tokens and cost; every chunk has the public name and fingerprint."""
    call = AsgiCall(app, path, {**body, "model": model, "stream": True, **options})
    await call
    *events, done = call.events
    chunks = [json.loads(event) for event in events]
    revision = None if model == BASE else served.service.get(model).revision.digest
    assert (call.status, done) == (200, "[DONE]")
    assert {c["model"] for c in chunks} == {model}
    assert {c["system_fingerprint"] for c in chunks} == {fingerprint(EngineKind.FAKE, BASE, revision)}
    assert [bool(c["choices"]) for c in chunks] == [True] * (len(chunks) - 1) + [False]
    last = chunks[-1]
    assert last["cost"]["output_tokens"] == last["usage"]["completion_tokens"] > 0
    assert last["usage"]["s3lora"]["cost"]["output_tokens"] == last["cost"]["output_tokens"]
    assert last["s3lora"].get("planner") == (None if model == BASE else model)
    assert last["s3lora"]["served_by"] == ("adapter" if model == "p" else "base")
    assert not [c for c in chunks[:-1] if {"usage", "s3lora", "cost"} & set(c)]


@pytest.mark.parametrize("model", ["p", BASE])
async def test_a_whole_answer_says_the_same(served, app, model):
    """What a stream tells in its last chunk; its content-length is that of what is sent."""
    whole, stream = AsgiCall(app, CHAT, {**ASK, "model": model}), None
    await whole
    stream = AsgiCall(app, CHAT, {**ASK, "model": model, "stream": True})
    await stream
    answer, last = json.loads(whole.text), json.loads(stream.events[-2])
    assert int(whole.headers["content-length"]) == len(whole.text.encode())
    assert (answer["model"], answer["system_fingerprint"]) == (model, last["system_fingerprint"])
    assert answer["s3lora"] == last["s3lora"]
    assert (set(answer["cost"]), answer["cost"]["output_tokens"]) == (
        set(last["cost"]),
        last["cost"]["output_tokens"],
    )
    for usage in (answer["usage"]["s3lora"], last["usage"]["s3lora"]):
        usage.pop("cost")
    assert answer["usage"]["s3lora"] == last["usage"]["s3lora"]


async def test_several_answers_and_prompts_are_counted_together(served, app):
    """n answers are one request of the engine; its tokens are those of all."""
    call = AsgiCall(app, CHAT, {**ASK, "n": 3})
    await call
    answer = json.loads(call.text)
    assert (len(answer["choices"]), answer["cost"]["output_tokens"]) == (
        3,
        answer["usage"]["completion_tokens"],
    )


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}),
        ({"stream": "true"}, {"stream": True, "stream_options": {"include_usage": True}}),
        (
            {"stream": 1, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
            {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        ),
        (
            {"stream": True, "stream_options": {"continuous_usage_stats": True, "x": 1}},
            {"stream": True, "stream_options": {"x": 1, "include_usage": True}},
        ),
        ({"stream": "false"}, {"stream": False}),
        ({"stream": None}, {"stream": False}),
        ({"stream": "maybe"}, {"stream": "maybe"}),
        ({"stream": True, "stream_options": 7}, {"stream": True, "stream_options": 7}),
        ({"stream_options": {"include_usage": True}}, {"stream_options": {"include_usage": True}}),
        ({}, {}),
    ],
)
async def test_the_engine_is_asked_for_usage_on_streams_alone(served, app, monkeypatch, given, asked):
    """Usage on every chunk only where it was asked for; what is malformed is the engine's to refuse."""
    seen = []

    async def spy(request):
        seen.append(await request.json())
        return JSONResponse({"choices": []})

    engine_app(served, monkeypatch, spy)
    await AsgiCall(app, CHAT, {**ASK, **given})
    assert seen == [{**ASK, **asked, "model": "p@000000000000"}]
