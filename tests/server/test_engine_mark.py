"""Every answer says which kind of engine is behind it, so that a made-up one is not taken for real."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from control_stub import TOKEN, operators_client
from fleet_factory import BASE
from prometheus_client.parser import text_string_to_metric_families

from planners import Plan
from s3lora_serve.config import ServerConfig
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.server.app import create_app

PLAN = {"planner": "p", "task": "x", "tools": [{"name": "Search"}]}
CHAT = {"model": "p", "messages": [{"role": "user", "content": "x"}]}
REQUESTS = [
    ("GET", "/livez", None, 200),
    ("GET", "/readyz", None, 503),
    ("GET", "/metrics", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("GET", "/v1/models", None, 200),
    ("GET", "/v1/planners/p", None, 200),
    ("POST", "/v1/plans", PLAN, 200),
    ("POST", "/v1/plans", {**PLAN, "stream": True}, 200),
    ("POST", "/v1/plans", {**PLAN, "planner": "bad"}, 503),
    ("POST", "/v1/plans", {}, 400),
    ("POST", "/v1/chat/completions", CHAT, 200),
    ("POST", "/v1/chat/completions", {**CHAT, "stream": True}, 200),
    ("POST", "/v1/completions", {"model": BASE, "prompt": "x"}, 200),
    ("POST", "/v1/completions", {"model": "nobody", "prompt": "x"}, 404),
    ("GET", "/nowhere", None, 404),
    ("POST", "/v1/plans", {"task": "x" * 200_000}, 413),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), REQUESTS)
async def test_every_answer_has_the_header(http, method, path, body, status):
    """Streams, refusals and paths that do not exist too."""
    answer = await http.request(method, path, json=body)
    assert (answer.status_code, answer.headers.get_list("x-s3lora-engine")) == (status, ["fake"])


async def test_also_who_is_not_let_in_and_while_the_engine_is_down(fleet, keyed):
    """The header does not depend on a key, nor on an engine that runs at the moment."""
    async with keyed() as stranger:
        assert (await stranger.get("/v1/models")).headers["x-s3lora-engine"] == "fake"
    app = create_app(fleet.service, ServerConfig(), None)
    fleet.starts.hold()
    fleet.engine.die()
    while fleet.service.host.alive:
        await asyncio.sleep(0.001)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        down = await http.post("/v1/plans", json=PLAN)
        ready = await http.get("/readyz")
    assert (down.status_code, down.headers["x-s3lora-engine"]) == (503, "fake")
    assert (ready.status_code, ready.json()["engine"]) == (503, "fake")


async def test_bodies_say_it_too(http):
    """A plan's meta, ``s3lora`` of chats and completions, every model, every planner, and readiness."""
    plan = Plan.model_validate((await http.post("/v1/plans", json=PLAN)).json())
    assert plan.meta.engine == "fake"
    for path, body in (("chat/completions", CHAT), ("completions", {"model": BASE, "prompt": "x"})):
        answer = (await http.post(f"/v1/{path}", json=body)).json()
        assert (answer["s3lora"]["engine"], answer["usage"]["s3lora"]["engine"]) == ("fake", {"fake": 1})
    for path in ("/v1/models", "/v1/planners"):
        cards = (await http.get(path)).json()["data"]
        assert {card["engine"] for card in cards} == {"fake"}
    assert (await http.get("/readyz")).json()["engine"] == "fake"


async def test_each_piece_of_a_stream_says_it(http):
    """A chat's chunks by their fingerprint, the last one in full; a plan's meta as without streaming."""
    streamed = await http.post("/v1/chat/completions", json={**CHAT, "stream": True})
    chunks = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    assert {chunk["system_fingerprint"].split("/")[1] for chunk in chunks} == {"fake"}
    assert chunks[-1]["s3lora"]["engine"] == "fake"
    events = (await http.post("/v1/plans", json={**PLAN, "stream": True})).text.strip().split("\n\n")
    assert json.loads(events[-1].partition("data: ")[2])["engine"] == "fake"


async def test_metrics_say_it_in_a_form_that_can_be_read(http):
    """One series names the engine, and what the fake itself adds keeps to the text format."""
    families = text_string_to_metric_families((await http.get("/metrics")).text)
    found = [sample for family in families for sample in family.samples if "engine_info" in sample.name]
    assert [(s.name, s.labels, s.value) for s in found] == [("s3lora_engine_info", {"engine": "fake"}, 1.0)]


@pytest.mark.parametrize("kind", EngineKind)
async def test_operators_are_told_as_well(service, monkeypatch, kind):
    """In the header of every answer, and beside each planner."""
    monkeypatch.setattr(service, "engine_kind", kind)
    async with operators_client(service, authorization=f"Bearer {TOKEN}") as admin:
        answers = [await admin.get(f"/admin/{path}") for path in ("planners", "planners/p", "nowhere")]
    assert [answer.headers["x-s3lora-engine"] for answer in answers] == [kind] * 3
    assert (answers[0].json()["data"][0]["engine"], answers[1].json()["engine"]) == (kind, kind)
