"""Many requests at once under a guard, at random."""

from __future__ import annotations

import asyncio
import random

from asgi_call import AsgiCall
from fleet_factory import make_fleet
from guarded_asks import ASKS, TELLTALE, tells, told, with_text
from request_kinds import ASK, CHAT, PLAN, held
from scripted_judge import HARM, ScriptedJudge, guards_by

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app


async def test_a_storm(tmp_path, logged):
    """Two hundred over all routes, verdicts when they like: nothing leaks, is lost or left over."""
    rng, allowed, refused = random.Random(14), 0, 0
    judge = ScriptedJudge(lambda: rng.choice((0.0, 0.0, rng.random() * 0.05)))
    fleet = make_fleet(
        tmp_path, "p", hollow=("h",), guards=guards_by(judge, "p", "h"), seconds_per_token=0.001
    )
    await fleet.start()
    fleet.engine._plan = lambda prompt: f"Plan: {TELLTALE}.\n#E1 = {TELLTALE}[{TELLTALE}]"
    app = create_app(fleet.service, ServerConfig(max_concurrent=300), None)
    await AsgiCall(app, CHAT, {**ASK, "model": "fake-base"})  # the application's lifespan has begun
    before = asyncio.all_tasks()
    calls = []
    for number in range(200):
        kind = rng.choice(list(ASKS))
        path, body = ASKS[kind]
        harmful = rng.random() < 0.6
        name = "planner" if path == PLAN else "model"
        body = {**body, name: rng.choice(("p", "h"))}
        call = AsgiCall(app, path, with_text(body, f"a {HARM} {number}" if harmful else f"Who? {number}"))
        left = rng.random() < 0.1
        if left:
            asyncio.get_running_loop().call_later(rng.random() * 0.05, call.leave)
        calls.append((call, path, harmful, left))
    for call, path, harmful, left in calls:
        await call
        if left and call.status in (None, 499):
            continue
        if harmful:
            refused += 1
            assert (call.status, tells(told(call))) == (403 if path == PLAN else 200, False)
        elif not left:
            allowed += 1
            assert (call.status, call.complete) == (200, True)
    assert min(allowed, refused) > 30
    await asyncio.sleep(0.05)
    assert (held(fleet), judge.judging, asyncio.all_tasks() - before) == ((0, 0), 0, set())
    assert [line for line in logged if tells(line)] == []
    assert not tells(fleet.service.metrics.exposition().decode())
    await fleet.close()


def test_every_route_that_answers_is_in_the_storm(app):
    """A route that is added later must be guarded, too, and tried here."""
    posts = {path for path, methods in app.openapi()["paths"].items() if "post" in methods}
    assert posts == {path for path, _ in ASKS.values()}
