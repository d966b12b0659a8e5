"""Each request holds its revision until it has left the engine, and no longer, however it ends."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgi_call import AsgiCall
from request_kinds import ASK, CHAT, KINDS, PLAN, TASK, engine_app, held, until
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from s3lora_serve.control.operation import Order, Wanted

OPERATOR = Order(actor="test")


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_an_answered_request_gives_its_lease_back(served, app, ended, kind):
    """Held while the engine works, gone when the answer is complete; what it was worth is noted."""
    path, body = KINDS[kind]
    gate = served.engine.hold_requests("p@*")
    call = AsgiCall(app, path, body)
    await until(lambda: gate.waiting)
    assert held(served) == (1, 1)
    gate.open()
    await call
    assert (call.status, call.complete, held(served), ended) == (
        200,
        True,
        (0, 0),
        [("p", "active", "ok")],
    )
    names = ("x-s3lora-planner", "x-s3lora-revision", "x-s3lora-role")
    assert [call.headers[name] for name in names] == ["p", "0" * 64, "active"]


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_client_that_leaves_gives_its_lease_back(served, app, ended, kind):
    """The engine stops first, then the lease ends; nothing is held against the revision."""
    path, body = KINDS[kind]
    gate = served.engine.hold_requests("p@*")
    call = AsgiCall(app, path, body)
    await until(lambda: gate.waiting)
    call.leave()
    await call
    assert (held(served), ended) == ((0, 0), [("p", "active", "aborted")])


class Unread(AsgiCall):
    """Its client reads the headers and nothing else, and does not leave either."""

    async def _send(self, message):
        if message["type"] == "http.response.body":
            await self._left.wait()
        await super()._send(message)


@pytest.mark.parametrize("kind", ["stream", "text stream", "plan stream", "plan stream, no grammar"])
async def test_a_client_that_reads_nothing_holds_no_revision_past_the_drain(served, app, kind):
    """The swap ends and the slot is free, though the request still waits for its client."""
    plan = {**TASK, "stream": True, "constraint": "none" if "no grammar" in kind else "grammar"}
    path, body = KINDS.get(kind, (PLAN, plan))
    call = Unread(app, path, body, {"x-request-id": "unread"})
    await until(lambda: call.status == 200)
    assert held(served)[0] == 1
    operation = await served.done(await served.service.control.swap("p", Wanted(source="n"), OPERATOR))
    assert (operation.step, operation.cut, held(served)) == ("done", ("unread",), (0, 0))
    call.leave()
    await call


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_request_that_outlasts_the_drain_is_cut(served, app, ended, kind):
    """Before the answer began it is a 503; in mid-stream an error event, and the end without [DONE]."""
    path, body = KINDS[kind]
    served.engine.hold_requests("p@000000000000")
    call = AsgiCall(app, path, body, {"x-request-id": "late"})
    await until(lambda: held(served) == (1, 1))
    operation = await served.done(await served.service.control.swap("p", Wanted(source="n"), OPERATOR))
    await call
    assert (operation.step, operation.cut, held(served), ended) == (
        "done",
        ("late",),
        (0, 0),
        [("p", "active", "aborted")],
    )
    if kind in ("stream", "response stream"):  # it began before the first token
        assert (call.status, call.complete) == (200, True)
        error = json.loads(call.events[-1])["error"]
    else:
        assert call.status == 503
        error = json.loads(call.text)["error"]
        assert call.headers["retry-after"] == "1"
    assert (error["code"], error["type"]) == ("lease_cut", "server_error")
    after = AsgiCall(app, path, body)
    await after
    assert (after.status, after.headers["x-s3lora-revision"]) == (
        200,
        served.shelf.revisions["n"].digest,
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_request_under_a_dying_engine_ends_cleanly(served, app, ended, kind):
    """A 503 with Retry-After, or an error event in our shape: never a hang and never a half answer."""
    path, body = KINDS[kind]
    gate = served.engine.hold_requests("p@*")
    call = AsgiCall(app, path, body)
    await until(lambda: gate.waiting)
    served.engine.die()
    await call
    if kind in ("stream", "response stream"):
        error = json.loads(call.events[-1])["error"]  # not [DONE]
        assert (call.status, call.complete) == (200, True)
    else:
        error = json.loads(call.text)["error"]
        assert (call.status, call.headers["retry-after"]) == (503, "10")
    assert (error["code"], sorted(error)) == ("engine_dead", ["code", "message", "param", "type"])
    assert (held(served)[0], ended) == (0, [("p", "active", "aborted")])
    await until(lambda: served.starts.current is not served.engine and served.service.host.alive)
    again = AsgiCall(app, path, body)
    await again
    assert again.status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_an_application_that_hangs_with_its_engine_is_left(served, app, ended, monkeypatch, stream):
    """The engine's application says nothing when the engine dies; the client is answered all the same."""
    begun = asyncio.Event()

    async def hang(request):
        async def events():
            yield 'data: {"choices": []}\n\n'
            begun.set()
            await asyncio.Event().wait()

        if stream:
            return StreamingResponse(events(), media_type="text/event-stream")
        begun.set()
        await asyncio.Event().wait()
        return Response()

    engine_app(served, monkeypatch, hang)
    call = AsgiCall(app, CHAT, {**ASK, "stream": stream})
    await begun.wait()
    served.engine.die()
    await call
    error = json.loads(call.events[-1] if stream else call.text)["error"]
    assert (error["code"], call.complete, ended) == ("engine_dead", True, [("p", "active", "aborted")])


async def test_work_in_a_task_of_its_own_has_ended_before_the_lease(served, app, ended, monkeypatch):
    """vLLM answers in a task that ends only when the client leaves: cancelling what waits for it does not."""
    worked = asyncio.Event()
    left_with = []

    async def answer_in_a_task(request):
        async def work():
            worked.set()
            try:
                await asyncio.Event().wait()
            finally:
                left_with.append(held(served)[0])

        async def leaving():
            while (await request.receive())["type"] != "http.disconnect":
                pass

        tasks = [asyncio.create_task(work()), asyncio.create_task(leaving())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        tasks[0].cancel()
        await asyncio.sleep(0)
        return JSONResponse(None)

    engine_app(served, monkeypatch, answer_in_a_task)
    call = AsgiCall(app, CHAT, ASK)
    await worked.wait()
    call.leave()
    await call
    assert (left_with, held(served)[0], ended, call.messages) == ([1], 0, [("p", "active", "aborted")], [])


PART = 'data: {"choices": [{"delta": {"content": "data: {\\"error\\""}}]}\n\n'
DONE = "data: [DONE]\n\n"


def _stream(*parts):
    """A stream of these events; None is a defect."""

    async def events():
        for part in parts:
            if part is None:
                raise RuntimeError("a defect in /opt/vllm/x.py")
            yield part

    return StreamingResponse(events(), media_type="text/event-stream")


def _raises(request):
    raise RuntimeError("a defect in /opt/vllm/x.py")


SAID = {"error": {"message": "no file /srv/x", "type": "InternalServerError", "param": None, "code": 500}}
EVENT = f"data: {json.dumps(SAID)}\n\n"
ANSWERS = {
    "500": (lambda request: JSONResponse(SAID, 500), 500, "engine_error", "error"),
    "500 in plain text": (lambda request: PlainTextResponse("failed", 500), 500, "engine_error", "error"),
    "400": (lambda request: JSONResponse(SAID, 400), 400, "engine_refused", "refused"),
    "raises": (_raises, 500, "engine_error", "error"),
    "only an error event": (lambda request: _stream(EVENT), 500, "engine_error", "error"),
    "an error event": (lambda request: _stream(PART, EVENT, DONE), 200, "engine_error", "error"),
    "an error event at once": (lambda request: _stream(PART, EVENT + DONE), 200, "engine_error", "error"),
    "raises in mid-stream": (lambda request: _stream(PART, None), 200, "engine_error", "error"),
    "text about errors": (lambda request: _stream(PART, DONE), 200, None, "ok"),
}


@pytest.mark.parametrize("kind", sorted(ANSWERS))
async def test_what_the_engine_answers_is_noted(served, app, ended, monkeypatch, kind):
    """Failures count against the revision, refusals for nothing; all errors leave in our shape, pathless."""
    answer, status, code, outcome = ANSWERS[kind]

    async def endpoint(request):
        return answer(request)

    engine_app(served, monkeypatch, endpoint)
    call = AsgiCall(app, CHAT, ASK)
    await call
    errors = [json.loads(e)["error"] for e in call.events if e.startswith('{"error"')]
    if status != 200:
        errors = [json.loads(call.text)["error"]]
    assert (call.status, call.complete, held(served), ended) == (
        status,
        True,
        (0, 0),
        [("p", "active", outcome)],
    )
    assert [error["code"] for error in errors] == ([code] if code else [])
    assert ("[DONE]" in call.text, call.text.count("choices")) == (code is None, int(status == 200))
    assert ("/srv" in call.text, "/opt" in call.text) == (False, False)
