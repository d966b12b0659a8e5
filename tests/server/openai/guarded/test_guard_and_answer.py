"""Answer and guard of one request begin and end together, however it ends."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE, make_fleet
from guarded_asks import ASKS, done, leases_of, tell, tells, told, with_text
from request_kinds import ASK, CHAT, PLAN, held, until
from scripted_judge import HARM, guards_by

from s3lora_serve.config import ServerConfig, SwapConfig
from s3lora_serve.control.operation import Order, Wanted
from s3lora_serve.server.app import create_app


@pytest.mark.parametrize("kind", ASKS)
async def test_a_refusal_ends_the_generation_at_once(app, guarded, judge, kind):
    """The engine is not asked for what nobody will get."""
    guarded.engine.hold_requests("p@*")
    path, body = ASKS[kind]
    call = AsgiCall(app, path, with_text(body, HARM))
    async with asyncio.timeout(10):
        await call
    assert (call.status, held(guarded)) == (403 if path == PLAN else 200, (0, 0))


@pytest.mark.parametrize("kind", ASKS)
async def test_a_client_that_leaves_before_the_verdict(app, guarded, judge, kind):
    """Both end, answer and guard; no task is left over."""
    tell(guarded)
    path, body = ASKS[kind]
    await AsgiCall(app, CHAT, {**ASK, "model": BASE})  # begins what outlives a request
    before = asyncio.all_tasks()
    judge.gate.clear()
    call = AsgiCall(app, path, body)
    await until(lambda: judge.judging)
    await done(guarded)
    call.leave()
    await call
    assert (held(guarded), judge.judging, call.status in (None, 499)) == ((0, 0), 0, True)
    await asyncio.sleep(0)
    assert (tells(told(call)), asyncio.all_tasks() - before) == (False, set())
    assert leases_of(guarded).keys() == {"aborted"}  # whatever the answer was worth


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("late", [False, True])
async def test_an_engine_that_dies_before_the_verdict(app, guarded, judge, kind, late):
    """With the answer done or not: a 503 with Retry-After, or what was done in time; never half of it."""
    if not late:
        guarded.engine.hold_requests("p@*")
    path, body = ASKS[kind]
    judge.gate.clear()
    call = AsgiCall(app, path, body)
    await until(lambda: judge.judging)
    if late:
        await done(guarded)
    guarded.engine.die()
    judge.fails = not late  # the base is asked in the same engine
    judge.gate.set()
    await call
    if call.status == 503:
        assert json.loads(call.text)["error"]["code"] in ("engine_dead", "guard_undecided")
        assert "retry-after" in call.headers
    else:
        assert (late, call.status, call.complete) == (True, 200, True)
    assert (held(guarded)[0], judge.judging) == (0, 0)


@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("first", ["death", "verdict", "leaving"])
async def test_a_refusal_meets_a_death_or_a_client_that_leaves(app, guarded, judge, logged, kind, first):
    """In the same moment, in either order, with the answer whole: it stays, and nothing is left over."""
    tell(guarded)
    path, body = ASKS[kind]
    judge.gate.clear()
    call = AsgiCall(app, path, with_text(body, f"a {HARM}"))
    await until(lambda: judge.judging)
    await done(guarded)
    if first == "death":
        guarded.engine.die()
    judge.gate.set()
    if first == "verdict":
        await asyncio.sleep(0)
        guarded.engine.die()
    elif first == "leaving":
        call.leave()
    await call
    assert (tells(told(call)), call.status in (None, 200, 403, 499, 503)) == (False, True)
    if call.status == 200:
        assert "content_filter" in call.text or '"type":"refusal"' in call.text
    assert [line for line in logged if tells(line)] == []
    assert (held(guarded)[0], judge.judging) == (0, 0)
    assert leases_of(guarded).keys() == {"aborted"}


async def test_a_drain_does_not_wait_for_a_verdict(tmp_path, judge):
    """The lease is cut at the deadline, guard or not; the client is told to ask again."""
    fleet = make_fleet(tmp_path, "p", guards=guards_by(judge, "p"), swap=SwapConfig(drain_seconds=0.05))
    fleet.shelf.put("n")
    await fleet.start()
    app = create_app(fleet.service, ServerConfig(), None)
    judge.gate.clear()
    calls = [AsgiCall(app, path, body) for path, body in ASKS.values()]
    await until(lambda: judge.judging == len(calls))
    await fleet.done(await fleet.service.control.swap("p", Wanted(source="n"), Order(actor="test")))
    for call in calls:
        await call
    assert {(call.status, json.loads(call.text)["error"]["code"]) for call in calls} == {(503, "lease_cut")}
    assert (held(fleet), judge.judging) == ((0, 0), 0)
    await fleet.close()


async def test_an_error_about_the_request_waits_for_nobody(app, guarded, judge):
    """What the engine refuses before it begins says nothing of an answer."""
    judge.gate.clear()
    call = AsgiCall(app, CHAT, {**ASK, "max_tokens": "many"})
    await call
    assert (call.status, json.loads(call.text)["error"]["code"]) == (400, "engine_refused")


@pytest.mark.parametrize("kind", ["plan", "chat", "chat stream", "plan in a chat", "text"])
async def test_what_the_guard_asks_is_not_the_answers_cost(app, guarded, judge, kind):
    """Whoever is asked in the same engine, before the answer ends or after it."""
    path, body = ASKS[kind]
    costs = []
    for judge.engine in (None, guarded.engine):
        call = AsgiCall(app, path, body)
        await call
        ends = [event for event in call.events if event != "[DONE]"]
        answer = json.loads(ends[-1] if ends else call.text)
        cost = answer["cost"] if path != PLAN else answer["meta"]["cost"]
        costs.append((cost["prompt_tokens"], cost["output_tokens"], cost["guard_tokens"]))
    assert costs[0] == costs[1]


@pytest.mark.parametrize("kind", ["chat", "chat stream", "plan in a chat", "text"])
@pytest.mark.parametrize(("given", "priority"), [(-5, -5), ("3", 3), (None, 0), (0, 0), ("x", 0), (2**63, 0)])
async def test_the_guard_has_its_requests_priority(guarded, judge, kind, given, priority):
    """As the engine reads it, where operators allow the field; what the engine refuses is any other's."""
    app = create_app(guarded.service, ServerConfig(allow_fields=("priority",)), None)
    path, body = ASKS[kind]
    await AsgiCall(app, path, {**body, "priority": given})
    assert judge.priorities == [priority]


@pytest.mark.parametrize("kind", ["plan", "plan stream"])
async def test_the_guard_of_a_plan_has_no_other_priority(app, judge, kind):
    """Plans have none of their own, and neither have their guards."""
    path, body = ASKS[kind]
    await AsgiCall(app, path, body)
    assert judge.priorities == [0]
