"""Which revision answers a request: the one leased for it, under swaps, sessions and too few slots."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from asgi_call import AsgiCall
from fleet_factory import BASE, make_fleet
from request_kinds import ASK, CHAT, KINDS, PLAN, engine_app, held, until
from starlette.responses import JSONResponse

from s3lora_serve.config import ServerConfig, SlotsConfig
from s3lora_serve.control.operation import Order, Wanted
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.server.app import create_app

OPERATOR = Order(actor="test")


async def test_the_engine_is_asked_for_the_leased_slot(served, app, monkeypatch):
    """``model`` becomes the slot's name or, for a fully pruned planner, the base model's; the rest stays."""
    seen = []

    async def spy(request):
        seen.append(await request.json())
        return JSONResponse({"choices": []})

    engine_app(served, monkeypatch, spy)
    more = {
        "temperature": 0.5,
        "seed": 7,
        "stop": ["é\n", "\U0001f600"],
        "user": "u",
        "tools": [{"type": "function", "function": {"name": "a", "parameters": {"b": [1, 2.5]}}}],
    }
    for model in ("p", "q", "h", BASE):
        await AsgiCall(app, CHAT, {**ASK, "model": model, **more})
    names = ["p@000000000000", "q@111111111111", BASE, BASE]
    assert seen == [{**ASK, "model": name, **more} for name in names]


async def test_a_session_stays_where_it_began(served, app):
    """By header, by OpenAI's ``user`` and on plans: a canary with share 1 gets no session that is older."""
    new = served.shelf.revisions["n"].digest

    async def ask(path, headers=None, **more):
        call = AsgiCall(app, path, {**dict(KINDS.values())[path], **more}, headers)
        await call
        return call.headers["x-s3lora-revision"][:2], call.headers["x-s3lora-role"]

    old = ("00", "active")
    header = {"x-s3lora-session": "s" * 500}
    assert [await ask(CHAT, header), await ask(CHAT, user="u"), await ask(PLAN, header)] == [old] * 3
    started = await served.service.control.canary("p", Wanted(source="n"), OPERATOR, share=1.0)
    assert (await served.done(started)).step == "done"
    assert [await ask(CHAT, header), await ask(CHAT, user="u"), await ask(PLAN, header)] == [old] * 3
    fresh = (new[:2], "canary")
    assert [await ask(CHAT), await ask(PLAN), await ask(CHAT, {"x-s3lora-session": "new"}, user="u")] == [
        fresh
    ] * 3


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_shadow_is_asked_again_and_answers_nobody(served, app, kind):
    """Whole answers and plans are compared with the candidate's; streams are left out. Nothing is held."""
    path, body = KINDS[kind]
    started = await served.service.control.canary("p", Wanted(source="n"), OPERATOR, share=1.0, shadow=True)
    assert (await served.done(started)).step == "done"
    calls = [AsgiCall(app, path, body) for _ in range(3)]
    for call in calls:
        await call
        assert (call.status, call.headers["x-s3lora-role"]) == (200, "active")
        assert call.headers["x-s3lora-revision"] == "0" * 64
        stats = served.service.shadows.stats("p")
        await until(lambda: held(served) == (0, 0))
    stats = served.service.shadows.stats("p")
    if "stream" in kind:
        assert stats is None
    else:
        assert (stats.runs + stats.dropped, stats.runs > 0, stats.same_text, stats.failed) == (3, True, 0, 0)
        assert stats.tokens == stats.candidate_tokens > 0


async def test_answers_are_wholly_of_the_revision_that_they_name(served, app):
    """While p is swapped to and fro under streams and whole answers, none fails and none is of two."""
    texts = {}
    for source in ("p", "n"):
        operation = await served.service.control.swap("p", Wanted(source=source), OPERATOR)
        await served.done(operation)
        call = AsgiCall(app, CHAT, ASK)
        await call
        said = json.loads(call.text)["choices"][0]["message"]["content"]
        texts[call.headers["x-s3lora-revision"]] = said
    assert len(set(texts.values())) == 2
    wrong, answered, stop = [], 0, asyncio.Event()

    async def client(stream):
        nonlocal answered
        while not stop.is_set():
            call = AsgiCall(app, CHAT, {**ASK, "stream": stream})
            await call
            answered += 1
            if call.status != 200:
                wrong.append(call.text)
                continue
            if stream:
                parts = [json.loads(e) for e in call.events if e != "[DONE]"]
                deltas = [part["choices"][0]["delta"] for part in parts if part["choices"]]
                said = "".join(delta.get("content") or "" for delta in deltas)
            else:
                said = json.loads(call.text)["choices"][0]["message"]["content"]
            if texts.get(call.headers["x-s3lora-revision"]) != said:
                wrong.append(said)

    clients = [asyncio.ensure_future(client(number % 2 == 0)) for number in range(8)]
    for number in range(12):
        wanted = Wanted(source=("p", "n")[number % 2])
        operation = await served.done(await served.service.control.swap("p", wanted, OPERATOR))
        assert operation.step == "done", operation.error
    stop.set()
    await asyncio.gather(*clients)
    assert (wrong, answered > 100, held(served)) == ([], True, (0, 0))


async def test_the_operators_application_swaps_what_clients_get(served, app):
    """Over both applications: an order by HTTP, and the next request runs on the new revision."""
    transport = httpx.ASGITransport(create_admin_app(served.service, "token"))
    headers = {"authorization": "Bearer token", "idempotency-key": "k"}
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as admin:
        body = {"source": "n", "expected_revision": "0" * 12}
        operation = (await admin.post("/admin/planners/p/swap", json=body)).json()
        while not operation["ended"]:
            operation = (await admin.get(f"/admin/operations/{operation['id']}?wait=5")).json()
        repeated = await admin.post("/admin/planners/p/swap", json=body)
        stale = await admin.post("/admin/planners/p/swap", json=body, headers={"idempotency-key": "another"})
        other = await admin.post("/admin/planners/p/rollback")
        back = await admin.post("/admin/planners/p/rollback", headers={"idempotency-key": "back"})
        history = (await admin.get("/admin/history")).json()["data"]
        shown = (await admin.get("/admin/planners/p")).json()
        checked = (await admin.get("/admin/verify")).json()
        told = "".join(
            [(await admin.get(f"/admin/{path}")).text for path in ("planners", "operations", "history")]
        )
    new = served.shelf.revisions["n"].digest
    assert (operation["step"], operation["to_digest"]) == ("done", new), operation
    assert (repeated.status_code, repeated.json()["id"]) == (200, operation["id"])
    assert (stale.status_code, stale.json()["revision"]) == (409, new)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert (back.status_code in (200, 202), shown["revision"], shown["previous"]) == (True, "0" * 64, new)
    assert {"swap.begun", "swap.flipped", "swap.done", "rollback.flipped"} <= {e["action"] for e in history}
    assert checked["ok"], checked
    assert [secret for secret in ("my store", str(served.shelf.root.parent)) if secret in told] == []


@pytest.fixture
async def crowded(tmp_path, monkeypatch):
    """Three planners on two slots; r has none, as the first to be loaded."""
    monkeypatch.setattr("s3lora_serve.serving.slot_allocator.TURN_SECONDS", 2.5)
    slots = SlotsConfig(max_waiting=1)
    fleet = await make_fleet(tmp_path, "r", "p", "q", max_loras=2, slots=slots).start()
    assert [planner.state.value for planner in fleet.service.planners()] == ["evicted", "serving", "serving"]
    yield fleet
    await fleet.close()
    assert fleet.starts.violations == []


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_client_that_leaves_while_its_planner_is_loaded(crowded, kind):
    """It holds nothing yet and takes nothing later; the load goes on, since others may want it."""
    app = create_app(crowded.service, ServerConfig(), None)
    gate = crowded.engine.hold_loads("r@*")
    path, body = KINDS[kind]
    call = AsgiCall(app, path, {**body, ("planner" if path == PLAN else "model"): "r"})
    await until(lambda: gate.waiting)
    call.leave()
    await call
    gate.open()
    await until(lambda: crowded.service.get("r").state == "serving")
    assert ([m for m in call.messages if m.get("status") != 499], held(crowded)) in (
        ([], (0, 0)),
        ([{"type": "http.response.body", "body": b""}], (0, 0)),
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_no_slot_in_time_is_a_429(crowded, kind):
    """The client is told when to come back, in whole seconds; the refusal holds nothing."""
    app = create_app(crowded.service, ServerConfig(), None)
    gate = crowded.engine.hold_requests("[pq]@*")
    path, body = KINDS[kind]
    wants_r = {**body, ("planner" if path == PLAN else "model"): "r"}
    busy = [AsgiCall(app, CHAT, {**ASK, "model": name}) for name in "pq"]
    await until(lambda: gate.waiting == 2)
    first = AsgiCall(app, path, wants_r)
    await asyncio.sleep(0)
    await until(lambda: held(crowded)[0] == 2)
    refused = AsgiCall(app, path, wants_r)
    await refused
    assert (refused.status, refused.headers["retry-after"], json.loads(refused.text)["error"]["code"]) == (
        429,
        "3",
        "slots_busy",
    )
    lines = crowded.service.metrics.exposition().decode().splitlines()
    wanted = f's3lora_http_requests_total{{planner="r",route="{path}",status="429"}} 1.0'
    assert wanted in lines
    gate.open()
    for call in (*busy, first):
        await call
        assert call.status == 200
    assert held(crowded) == (0, 0)
