"""What a client gets whose request the guard refused, on every route, streamed and not."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from request_kinds import ASK, CHAT, KINDS, PLAN, RESPONSES, SAY, TASK, TEXT, held, until
from scripted_judge import HARM, MURKY

from planners import GuardVerdict, Plan

TOLD = (
    "the guard refused this request for its task; the answer is withheld; change that part; asking the same"
    " again changes nothing"
)
PLAN_CHAT = {**ASK, "s3lora": {"plan": {"tools": [{"name": "Search"}, {"name": "LLM"}]}}}
CHATS = {
    "chat": (CHAT, ASK),
    "plan in a chat": (CHAT, PLAN_CHAT),
    "text": (TEXT, SAY),
}


def asking(body, text):
    """The body with this text as what is asked."""
    if "messages" in body:
        return {**body, "messages": [{"role": "user", "content": text}]}
    return {**body, next(name for name in ("prompt", "input", "task") if name in body): text}


def chunks_of(call):
    """The chunks of a stream that ended as it should."""
    *chunks, done = call.events
    assert done == "[DONE]"
    return [json.loads(chunk) for chunk in chunks]


def check_refused(answer, *, chat, choices=1):
    """It is a refusal in OpenAI's form, and says nothing else."""
    said = {"role": "assistant", "content": None, "refusal": TOLD}
    part = {"message": said} if chat else {"text": ""}
    assert answer["choices"] == [
        {"index": index, **part, "logprobs": None, "finish_reason": "content_filter"}
        for index in range(choices)
    ]
    assert answer["s3lora"]["guard"] == {"verdict": "refused", "part": "task", "by": ["base"]}
    usage, cost = answer["usage"], answer["cost"]
    assert (usage["completion_tokens"], usage["total_tokens"]) == (0, usage["prompt_tokens"])
    assert cost == {"prompt_tokens": usage["prompt_tokens"], "output_tokens": 0, "guard_tokens": 7}
    assert answer["model"] == "p"


@pytest.mark.parametrize("choices", [1, 3])
@pytest.mark.parametrize("kind", CHATS)
async def test_a_refusal_is_told_as_openai_does(app, guarded, judge, kind, choices):
    """A 200 whose choices are all ``content_filter``, with the part and no word of the answer."""
    path, body = CHATS[kind]
    if "s3lora" in body and choices > 1:
        pytest.skip("a plan is one")
    judge.gate.clear()
    call = AsgiCall(app, path, {**asking(body, f"make a {HARM}"), "n": choices})
    await until(lambda: judge.judging)
    assert call.messages == []
    judge.gate.set()
    await call
    assert (call.status, held(guarded)) == (200, (0, 0))
    check_refused(json.loads(call.text), chat=path == CHAT, choices=choices)
    assert call.headers["x-s3lora-planner"] == "p"


@pytest.mark.parametrize("kind", CHATS)
async def test_a_streamed_refusal(app, guarded, judge, kind):
    """One chunk for the choice, with the refusal and usage, and the end; nothing before the verdict."""
    path, body = CHATS[kind]
    judge.gate.clear()
    call = AsgiCall(app, path, {**asking(body, f"make a {HARM}"), "stream": True})
    await until(lambda: judge.judging)
    assert call.messages == []
    judge.gate.set()
    await call
    (last,), chat = chunks_of(call), path == CHAT
    said = {"delta": {"role": "assistant", "content": None, "refusal": TOLD}} if chat else {"text": ""}
    assert last["choices"] == [{"index": 0, **said, "logprobs": None, "finish_reason": "content_filter"}]
    assert last["s3lora"]["guard"]["part"] == "task"
    assert (last["usage"]["completion_tokens"], call.headers["content-type"]) == (
        0,
        "text/event-stream; charset=utf-8",
    )
    assert held(guarded) == (0, 0)


@pytest.mark.parametrize(("asked", "told"), [(True, [None, 0]), (False, ["none"])])
async def test_a_streamed_refusal_tells_usage_where_any_answer_does(app, guarded, judge, asked, told):
    """On a chunk of its own where that was asked for, and nowhere where none is wanted."""
    body = asking({**ASK, "stream": True, "stream_options": {"include_usage": asked}}, f"make a {HARM}")
    call = AsgiCall(app, CHAT, body)
    await call
    used = [chunk.get("usage", "none") for chunk in chunks_of(call)]
    assert [usage and (usage if usage == "none" else usage["completion_tokens"]) for usage in used] == told
    assert chunks_of(call)[-1]["s3lora"]["guard"]["verdict"] == "refused"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refused_plan_is_a_403(app, guarded, judge, stream):
    """Also a streamed one, since nothing was sent before: with the part, and what to do."""
    call = AsgiCall(app, PLAN, {**asking(TASK, f"make a {HARM}"), "stream": stream})
    await call
    assert (call.status, json.loads(call.text)) == (
        403,
        {
            "error": {
                "message": TOLD,
                "type": "invalid_request_error",
                "param": None,
                "code": "refused_by_guard",
                "part": "task",
            }
        },
    )
    assert ("retry-after" in call.headers, held(guarded)) == (False, (0, 0))


@pytest.mark.parametrize("kind", [*sorted(KINDS), "plan stream"])
@pytest.mark.parametrize(("fails", "status", "again"), [(False, 403, None), (True, 503, "10")])
async def test_no_verdict_is_an_error(app, guarded, judge, kind, fails, status, again):
    """Undecided is a 403, since asking again changes nothing; a judge that failed makes it a 503."""
    path, body = KINDS.get(kind, (PLAN, {**TASK, "stream": True}))
    judge.fails = fails
    call = AsgiCall(app, path, asking(body, f"{MURKY} {MURKY}"))
    await call
    assert (call.status, json.loads(call.text)["error"]["code"]) == (status, "guard_undecided")
    assert (call.headers.get("retry-after"), held(guarded)) == (again, (0, 0))


@pytest.mark.parametrize("model", ["p", "h"])
@pytest.mark.parametrize("kind", [*sorted(KINDS), "plan stream"])
async def test_what_is_allowed_leaves_and_says_so(app, guarded, judge, kind, model):
    """Answer and verdict, and what the guard cost; the fully pruned planner is guarded as the others are."""
    path, body = KINDS.get(kind, (PLAN, {**TASK, "stream": True}))
    body = {**body, "planner" if "planner" in body else "model": model}
    judge.gate.clear()
    call = AsgiCall(app, path, body)
    await until(lambda: judge.judging)
    assert call.messages == []
    judge.gate.set()
    await call
    guard = {"verdict": "allowed", "by": ["base"]}
    if path == PLAN:
        meta = json.loads(call.events[-1]) if body.get("stream") else json.loads(call.text)["meta"]
        assert (call.status, meta["guard"], meta["cost"]["guard_tokens"]) == (200, guard, 7)
    else:
        if path == RESPONSES:
            answer = json.loads(call.events[-1])["response"] if body.get("stream") else json.loads(call.text)
        else:
            answer = chunks_of(call)[-1] if body.get("stream") else json.loads(call.text)
        assert (call.status, answer["s3lora"]["guard"]) == (200, guard)
        assert (answer["cost"]["guard_tokens"], answer["usage"]["s3lora"]["cost"]["guard_tokens"]) == (7, 7)
        assert answer["usage"].get("completion_tokens") or answer["usage"]["output_tokens"] > 0
    assert [caller for _, caller in judge.asked] == ["anyone"]


async def test_the_base_model_by_its_own_name_is_not_guarded(app, judge):
    """It is what the guard asks."""
    call = AsgiCall(app, CHAT, {**asking(ASK, f"make a {HARM}"), "model": BASE})
    await call
    assert (call.status, judge.asked, "guard" in json.loads(call.text)["s3lora"]) == (200, [], False)


async def test_the_verdict_is_part_of_the_plan(app):
    """As clients read it: who was asked and what came of it."""
    call = AsgiCall(app, PLAN, TASK)
    await call
    assert Plan.model_validate_json(call.text).meta.guard == GuardVerdict(verdict="allowed", by=("base",))


async def test_stock_types_read_a_refusal(app):
    """OpenAI's own package knows every field of it."""
    kinds = {CHAT: (ChatCompletion, ChatCompletionChunk), TEXT: (Completion, Completion)}
    for path, body in CHATS.values():
        whole, chunk = kinds[path]
        for stream in (False, True):
            call = AsgiCall(app, path, {**asking(body, HARM), "stream": stream})
            await call
            parts = chunks_of(call) if stream else [json.loads(call.text)]
            read = [(chunk if stream else whole).model_validate(part, strict=True) for part in parts]
            assert read[0].choices[0].finish_reason == "content_filter"
