"""Streams name planner and revision on every chunk, and end with the cost, whatever the client asked."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE
from request_kinds import ASK, CHAT, SAY, TEXT, engine_app
from starlette.responses import JSONResponse, StreamingResponse

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.serving.answer_meta import fingerprint

# What a client says of usage, and where it comes: with the finish_reason, in its own chunk, nowhere.
OPTIONS = [
    ({}, "finish"),
    ({"stream_options": None}, "finish"),
    ({"stream_options": {}}, "finish"),
    ({"stream_options": {"include_usage": None, "continuous_usage_stats": True}}, "finish"),
    ({"stream_options": {"include_usage": True}}, "own"),
    ({"stream_options": {"include_usage": False}}, "nowhere"),
]


@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK), (TEXT, SAY)])
@pytest.mark.parametrize(("options", "where"), OPTIONS)
@pytest.mark.parametrize("model", ["p", BASE])
async def test_a_stream_ends_with_the_cost(served, app, path, body, options, where, model):
    """Every chunk has a choice, as clients' loops expect, unless usage was asked for; then it comes as OpenAI
    sends it. Every chunk has the public name and fingerprint, one the cost, and none usage if it is refused.
    """
    call = AsgiCall(app, path, {**body, "model": model, "stream": True, **options})
    await call
    *events, done = call.events
    chunks = [json.loads(event) for event in events]
    revision = None if model == BASE else served.service.get(model).revision.digest
    assert (call.status, done) == (200, "[DONE]")
    assert {c["model"] for c in chunks} == {model}
    assert {c["system_fingerprint"] for c in chunks} == {fingerprint(EngineKind.FAKE, BASE, revision)}
    *before, last = chunks
    assert ([c for c in before if not c["choices"]], bool(last["choices"])) == ([], where != "own")
    finished = [c for c in chunks if c["choices"] and c["choices"][0]["finish_reason"]]
    assert finished == [before[-1] if where == "own" else last]
    assert {json.dumps(c.get("usage", "none")) for c in before} == {"null" if where == "own" else '"none"'}
    assert not [c for c in before if {"s3lora", "cost"} & set(c)]
    assert last["cost"]["output_tokens"] > 0
    if where == "nowhere":
        assert "usage" not in last
    else:
        assert last["usage"]["completion_tokens"] == last["cost"]["output_tokens"]
        assert last["usage"]["s3lora"]["cost"]["output_tokens"] == last["cost"]["output_tokens"]
    assert last["s3lora"].get("planner") == (None if model == BASE else model)


async def test_of_several_answers_the_one_that_ends_last_has_the_cost(served, app, monkeypatch):
    """The others pass as they are, each once and in its place."""

    async def answers(request):
        async def events():
            for index, said, finish in ((0, "a", None), (0, "", "stop"), (1, "b", None), (1, "", "length")):
                choice = {"index": index, "delta": {"content": said}, "finish_reason": finish}
                yield f"data: {json.dumps({'model': 'x', 'choices': [choice]})}\n\n"
            yield 'data: {"model": "x", "choices": [], "usage": {"completion_tokens": 2}}\n\n'
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    engine_app(served, monkeypatch, answers)
    call = AsgiCall(app, CHAT, {**ASK, "n": 2, "stream": True})
    await call
    chunks = [json.loads(event) for event in call.events[:-1]]
    seen = [(c["choices"][0]["index"], c["choices"][0]["finish_reason"], "s3lora" in c) for c in chunks]
    assert seen == [(0, None, False), (0, "stop", False), (1, None, False), (1, "length", True)]
    assert [c["usage"]["completion_tokens"] for c in chunks if "usage" in c] == [2]


@pytest.mark.parametrize("end", ["data: [DONE]\n\n", ""])
async def test_a_stream_without_usage_keeps_its_end(served, app, monkeypatch, end):
    """What waited for the engine's last chunk leaves also where none comes."""

    async def answers(request):
        choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
        text = f"data: {json.dumps({'model': 'x', 'choices': [choice]})}\n\n{end}"
        return StreamingResponse(iter([text]), media_type="text/event-stream")

    engine_app(served, monkeypatch, answers)
    call = AsgiCall(app, CHAT, {**ASK, "stream": True})
    await call
    assert json.loads(call.events[0])["choices"][0]["finish_reason"] == "stop"
    assert call.events[1:] == (["[DONE]"] if end else [])


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
