"""What is served and what is not, on the fake engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest
from fleet_factory import BASE, KEY, make_fleet

from s3lora_serve.config import ServerConfig
from s3lora_serve.engine.fake.fake_openai import UNGUARDED
from s3lora_serve.errors import ConfigError
from s3lora_serve.fleet.deployment import DeploymentState
from s3lora_serve.server.app import create_app

CHAT = {"messages": [{"role": "user", "content": "Who directed Inception?"}], "max_tokens": 40}
JSON = {"content-type": "application/json"}
# What vLLM's application has besides, by its own names (vllm/entrypoints, 0.32).
OF_VLLM = (
    "/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/adapters/p", "/pause", "/resume", "/is_paused",
    "/sleep", "/wake_up", "/reset_prefix_cache", "/collective_rpc", "/update_weights", "/server_info",
    "/v1/responses/r", "/v1/responses/r/cancel", "/v1/responses/r/input_items", "/v1/responses/render",
    "/v1/messages",
    "/v1/embeddings", "/v1/audio/transcriptions", "/v1/chat/completions/batch",
    "/v1/chat/completions/render", "/v1/completions/render", "/pooling", "/score", "/rerank", "/classify",
    "/start_profile", "/docs", "/redoc", "/static/x", "/is_scaling_elastic_ep", "/kv_event_sources",
)  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/plans"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"p"',
        b"\xff\xfe",
        b"{'model': 'p'}",
        b"[" * 50_000,
        b'{"a":' * 20_000,
        b"1" * 5000,
    ],
)
async def test_what_is_not_a_json_object_is_refused(http, path, content):
    """Truncated, deeply nested, not UTF-8 or not an object: a 4xx in our shape, never a 500."""
    answer = await http.post(path, content=content, headers=JSON)
    assert (answer.status_code in (400, 422), answer.json()["error"]["code"]) in (
        (True, "invalid_json"),
        (True, "invalid_request"),
    )


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/plans", "/v1/models", "/nope"])
async def test_a_huge_body_is_a_413(http, path):
    """The limit is the configuration's, for every route."""
    answer = await http.post(path, content=b"x" * 200_000, headers=JSON)
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        413,
        "the body is over the limit of 104857 bytes; raise server.max_body_mib",
    )


@pytest.mark.parametrize("path", sorted({*UNGUARDED, *OF_VLLM} - {"/metrics", "/health", "/version"}))
async def test_the_engines_other_routes_do_not_exist(http, path):
    """Whatever the engine's application brings, only the three OpenAI routes of it can be reached."""
    statuses = [
        (await http.request(method, path, json={})).status_code for method in ("GET", "POST", "DELETE")
    ]
    assert statuses == [404, 404, 404]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1//models",
        "/V1/models",
        "/%2e%2e/health",
    ],
)
async def test_spellings_of_a_path_are_not_the_path(http, path):
    """No redirect and no normalisation that another server in front might see differently."""
    assert (await http.post(path, json={"model": "p", **CHAT})).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/planners/p", "GET"),
        ("PUT", "/v1/plans", "POST"),
    ],
)
async def test_a_wrong_method_is_a_405(http, method, path, allowed):
    """The answer names the method that is allowed."""
    answer = await http.request(method, path)
    assert (answer.status_code, answer.headers["allow"], answer.json()["error"]["code"]) == (
        405,
        allowed,
        "method_not_allowed",
    )


PATHS = (
    ("GET", "/v1/models"), ("GET", "/v1/planners"), ("GET", "/v1/planners/p"), ("POST", "/v1/plans"),
    ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"), ("GET", "/metrics"),
    ("GET", "/openapi.json"), ("GET", "/nope"), ("POST", "/tokenize"), ("POST", "/adapters"),
    ("OPTIONS", "/v1/models"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_all_is_closed_without_the_key(keyed, method, path):
    """Every route, and every path that is none, needs the key."""
    async with keyed() as http:
        assert (await http.request(method, path)).status_code == 401
    async with keyed(authorization=f"Bearer {KEY}") as http:
        assert (await http.request(method, path)).status_code != 401


def test_an_open_address_needs_a_key(fleet):
    """The application refuses to exist without a key where others could reach it."""
    for key in (None, "", "  "):
        with pytest.raises(ConfigError):
            create_app(fleet.service, ServerConfig(host="0.0.0.0"), key)


async def test_health_follows_the_engine(http, fleet):
    """Ready needs all planners and the engine, live neither; both name no planner: they need no key."""
    answers = {path: await http.get(path) for path in ("/livez", "/readyz")}
    assert {path: (a.status_code, a.json()) for path, a in answers.items()} == {
        "/livez": (200, {"status": "alive"}),
        "/readyz": (
            503,
            {"status": "not ready", "engine": "fake", "planners": {"serving": 3, "configured": 4}},
        ),
    }
    fleet.starts.hold()
    fleet.engine.die()
    down = await http.get("/readyz")
    assert (down.status_code, down.json()["planners"]) == (503, {"serving": 0, "configured": 4})
    assert (await http.get("/livez")).status_code == 200


async def test_a_planner_that_could_not_be_loaded_again_is_not_counted(tmp_path):
    """Evicted is well, as the next request loads it; evicted since its load failed is not serving."""
    fleet = await make_fleet(tmp_path, "p", "q", max_loras=1).start()
    transport = httpx.ASGITransport(create_app(fleet.service, ServerConfig(), None))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            before = await http.get("/readyz")
            (name,) = (p.name for p in fleet.service.planners() if p.state is DeploymentState.EVICTED)
            fleet.engine.fail_load(f"{name}@*", "the disk is gone")
            asked = await http.post("/v1/chat/completions", json={**CHAT, "model": name})
            after = await http.get("/readyz")
    finally:
        await fleet.close()
    assert asked.status_code >= 500
    assert [
        (a.status_code, a.json()["status"], a.json()["planners"]["serving"]) for a in (before, after)
    ] == [
        (200, "ready", 2),
        (503, "not ready", 1),
    ]


async def test_a_dead_engine_is_a_503_everywhere(http, fleet):
    """Requests are refused at once and told when to come back, before and after the loss was noticed."""
    fleet.starts.hold()
    fleet.engine.die()
    bodies = {
        "/v1/chat/completions": {"model": "p", **CHAT},
        "/v1/plans": {"planner": "p", "task": "x", "tools": [{"name": "Search"}]},
    }
    bodies["/v1/completions"] = {"model": BASE, "prompt": "x"}
    for _ in range(2):
        codes = {}
        for path, body in bodies.items():
            answer = await http.post(path, json=body)
            codes[path] = (answer.status_code, answer.json()["error"]["code"], answer.headers["retry-after"])
        assert codes == dict.fromkeys(bodies, (503, "engine_dead", "10"))
        while fleet.service.host.alive:
            await asyncio.sleep(0.01)
    text = (await http.get("/metrics")).text
    assert ('s3lora_planner_up{planner="p"} 0.0' in text, "fake /metrics" in text) == (True, False)


async def test_metrics_move_and_hold_the_engines_too(http):
    """One request is one more in our counters; the engine's own metrics follow ours."""
    await http.post("/v1/chat/completions", json={"model": "p", **CHAT})
    await http.post("/nope")
    text = (await http.get("/metrics")).text
    lines = text.splitlines()
    assert 's3lora_requests_total{outcome="ok",planner="p"} 1.0' in lines
    assert 's3lora_requests_total{outcome="ok",planner="q"} 0.0' in lines
    assert 's3lora_http_requests_total{planner="p",route="/v1/chat/completions",status="200"} 1.0' in lines
    assert 's3lora_http_requests_total{planner="",route="other",status="404"} 1.0' in lines
    assert 's3lora_planner_up{planner="bad"} 0.0' in lines
    assert lines[-1] == "# fake /metrics"


async def test_each_engines_lifespan_runs(fleet):
    """vLLM's application logs its statistics from a lifespan: it is entered before the first request of its
    engine, and left when that dies or the server stops."""
    steps = []

    def watched(engine, name):
        @asynccontextmanager
        async def lifespan(app):
            steps.append(f"{name} up")
            await asyncio.sleep(0)
            yield
            await asyncio.sleep(0)
            steps.append(f"{name} down")

        engine.openai_app().router.lifespan_context = lifespan

    watched(fleet.engine, "first")
    app = create_app(fleet.service, ServerConfig(), None)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")
    async with app.router.lifespan_context(app), client as http:
        assert (await http.post("/v1/chat/completions", json={"model": "p", **CHAT})).status_code == 200
        gate = fleet.starts.hold()
        fleet.engine.die()
        while fleet.service.host.alive or "first down" not in steps:
            await asyncio.sleep(0.01)
        gate.open()
        while not fleet.service.host.alive:
            await asyncio.sleep(0.01)
        watched(fleet.starts.current, "second")
        assert (await http.post("/v1/chat/completions", json={"model": "p", **CHAT})).status_code == 200
        steps.append("serving")
    assert steps == ["first up", "first down", "second up", "serving", "second down"]
