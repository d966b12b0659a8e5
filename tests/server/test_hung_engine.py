"""An engine that hangs without dying is noticed and replaced like a dead one, and its clients are told."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from asgi_call import AsgiCall
from control_stub import TOKEN
from fleet_factory import make_fleet
from request_kinds import ASK, CHAT, KINDS, held, until

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.server.app import create_app

LOCAL = "http://127.0.0.1:8000"


@pytest.fixture
async def watched(tmp_path):
    """p and q under a watchdog that allows 0.3 s."""
    fleet = make_fleet(tmp_path, "p", "q", watchdog={"watchdog_seconds": 0.3, "load_seconds": 0.3})
    await fleet.start()
    yield fleet
    await fleet.close()
    assert fleet.starts.violations == []


def client(application, **headers):
    """A client of the application, on this machine."""
    transport = httpx.ASGITransport(application)
    return httpx.AsyncClient(transport=transport, base_url=LOCAL, headers=headers)


async def test_requests_under_a_hung_engine_end_and_are_answered_by_the_next_one(watched):
    """Of every kind: 503 engine_dead or an error event, no lease is left, not ready at once; then the same
    requests are answered. The log and the answers' reason say that it hung.
    """
    app = create_app(watched.service, ServerConfig(), None)
    first = watched.engine
    gate = watched.starts.hold()
    first.hang()
    calls = {kind: AsgiCall(app, path, body) for kind, (path, body) in KINDS.items()}
    await until(lambda: gate.waiting)
    assert not first.alive
    assert watched.service.host.down_reason.startswith(
        f"it hangs: no step for 0 s, {len(KINDS)} requests in it"
    )
    async with client(app) as http:
        ready = await http.get("/readyz")
    for kind, call in calls.items():
        await call
        error = json.loads(call.events[-1] if call.events else call.text)["error"]
        assert (kind, error["code"]) == (kind, "engine_dead")
    assert (ready.status_code, ready.json()["planners"], held(watched)) == (
        503,
        {"serving": 0, "configured": 2},
        (0, 0),
    )
    gate.open()
    await until(lambda: watched.service.host.alive)
    assert watched.running is not first
    for path, body in KINDS.values():
        again = AsgiCall(app, path, body)
        await again
        assert again.status == 200
    notes = [entry.reason for entry in watched.service.control.history() if entry.action == "engine.died"]
    assert "it hangs" in notes[0]


async def test_an_idle_engine_that_hangs_is_noticed(watched, monkeypatch):
    """It is asked for a sign of life, and gives none."""
    monkeypatch.setattr("s3lora_serve.serving.watchdog.PROBE_SECONDS", 0.05)
    watched.engine.hang()
    await until(lambda: watched.running is not watched.engine and watched.service.host.alive)
    assert not watched.engine.alive


async def test_an_engine_that_cannot_be_killed_is_replaced(watched, monkeypatch):
    """The watch goes on whatever a backend's ``kill`` does; the old engine is closed as a dead one is."""
    monkeypatch.setattr("s3lora_serve.serving.watchdog.PROBE_SECONDS", 0.05)
    monkeypatch.setattr(watched.engine, "kill", lambda: 1 / 0)
    watched.engine.hang()
    await until(lambda: watched.running is not watched.engine and watched.service.host.alive)
    assert not watched.engine.alive


async def test_an_idle_engine_that_answers_is_left_alone(watched, monkeypatch):
    """Probes go on and harm nothing."""
    monkeypatch.setattr("s3lora_serve.serving.watchdog.PROBE_SECONDS", 0.01)
    before = watched.engine.progress().signs
    await until(lambda: watched.engine.progress().signs > before + 5)
    assert (watched.service.host.alive, watched.service.host.restarts) == (True, 0)


async def test_slow_steps_are_no_hang(watched):
    """A request outlives the limit many times over, as long as each of its steps keeps it."""
    app = create_app(watched.service, ServerConfig(), None)
    watched.engine.seconds_per_token = 0.1
    call = AsgiCall(app, CHAT, {**ASK, "max_tokens": 12})
    await call
    assert (call.status, watched.service.host.restarts) == (200, 0)


async def test_an_engine_that_hangs_while_it_is_brought_back_is_replaced(watched):
    """The next attempt finds one that does not."""
    made = []

    def hung_at_first(engine=watched.starts._make):
        made.append(engine())
        if len(made) == 1:
            made[0].hang()
        return made[-1]

    watched.starts._make = hung_at_first
    watched.engine.die()
    await until(lambda: len(made) == 2 and watched.service.host.alive)
    assert not made[0].alive


async def test_a_restart_says_what_it_is_at(watched, caplog):
    """readyz, the operators' route, its events and the log have stage, attempt and time; readyz no names."""
    app, admin = create_app(watched.service, ServerConfig(), None), create_admin_app(watched.service, TOKEN)
    authorised = {"authorization": f"Bearer {TOKEN}"}
    gate = watched.starts.hold()
    watched.engine.die()
    await until(lambda: gate.waiting)
    async with client(app) as http, client(admin, **authorised) as operators:
        ready = (await http.get("/readyz")).json()["restart"]
        told = (await operators.get("/admin/engine")).json()
        assert {**ready, "seconds": 0} == {
            "stage": "attempt 1: starting the engine",
            "attempt": 1,
            "seconds": 0,
        }
        began = told["restart"].pop("began_at")
        assert 0 <= ready["seconds"] < 60
        assert began > 1.7e9
        assert told == {
            "kind": "fake",
            "alive": False,
            "restarts": 0,
            "reason": "it died; its log names the cause",
            "restart": {"stage": "attempt 1: starting the engine", "attempt": 1},
            "lora_kernels": None,
        }
        gate.open()
        await until(lambda: watched.service.host.alive)
        assert "restart" not in (await http.get("/readyz")).json()
        told = (await operators.get("/admin/engine")).json()
        assert (told["alive"], told["restart"], told["reason"], told["restarts"]) == (True, None, None, 1)
    stages = [m.partition("so far: ")[2] for r in caplog.records if "so far: " in (m := r.getMessage())]
    assert stages == [
        "closing the old engine",
        "attempt 1: starting the engine",
        "loading planner 1 of 2",
        "loading planner 2 of 2",
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["p", "fake-base"])
async def test_a_chat_that_takes_too_long_is_a_503(served, ended, model, stream):
    """As with a plan: the code plan_timeout, or an error event with it; the engine's request is ended, the
    lease given back, and the revision not blamed.
    """
    app = create_app(served.service, ServerConfig(answer_seconds=0.1), None)
    served.engine.seconds_per_token = 0.04
    call = AsgiCall(app, CHAT, {**ASK, "model": model, "stream": stream})
    await call
    error = json.loads(call.events[-1] if stream else call.text)["error"]
    assert (call.status, call.complete, error["code"]) == (200 if stream else 503, True, "plan_timeout")
    assert error["message"].startswith(f"'{model}' had not ended its answer within 0.1 s")
    assert "server.answer_seconds" in error["message"]
    assert (held(served), ended) == ((0, 0), [("p", "active", "aborted")] if model == "p" else [])
    await until(lambda: served.engine.progress().running == 0)
    assert served.service.host.restarts == 0


async def test_a_load_does_not_look_like_a_hang(tmp_path):
    """Nor does one that takes longer than the limit for steps, requests or not."""
    fleet = make_fleet(tmp_path, "p", watchdog={"watchdog_seconds": 0.05})
    fleet.engine.slow_load("p@*", 0.4)
    await fleet.start()
    try:
        await asyncio.sleep(0.2)
        assert (await fleet.service.ready(), fleet.service.host.restarts) == (True, 0)
    finally:
        await fleet.close()
