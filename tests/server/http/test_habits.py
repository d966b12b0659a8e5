"""What tools expect of any HTTP server: HEAD, gzip, CORS, a front page, probes by other names."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib

import httpx
import jsonschema
import pytest

from s3lora_serve import __version__
from s3lora_serve.config import ServerConfig
from s3lora_serve.errors import ConfigError
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.server.app import create_app
from s3lora_serve.server.http.packed_body import NotUnpacked, unpacked

PLAN = {"planner": "p", "task": "Who directed Inception?", "tools": [{"name": "Search"}]}
PACKED = {"content-type": "application/json", "content-encoding": "gzip"}
TOLD = (
    "/v1/models",
    "/v1/models/p",
    "/v1/planners",
    "/v1/planners/p",
    "/livez",
    "/readyz",
    "/health",
    "/version",
)


@pytest.mark.parametrize("path", [*TOLD, "/", "/metrics", "/openapi.json", "/nothing", "/v1/planners/nobody"])
async def test_head_has_the_headers_of_get_and_no_body(http, path):
    """Probes by HEAD see the same status, type and length."""
    got, head = await http.get(path), await http.head(path)
    kept = ("content-type", "content-length", "x-s3lora-engine")
    if path == "/metrics":  # they count the requests
        kept = kept[:1]
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert [head.headers.get(name) for name in kept] == [got.headers.get(name) for name in kept]


async def test_head_of_what_only_posts_is_a_405(http):
    """There is nothing that GET would answer."""
    assert (await http.head("/v1/plans")).status_code == 405


async def test_head_of_a_stream_ends(fleet):
    """The events of an operator's page have no end; their headers do."""
    transport = httpx.ASGITransport(create_admin_app(fleet.service, "token"))
    headers = {"authorization": "Bearer token"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as admin:
        answer = await asyncio.wait_for(admin.head("/admin/events"), 10)
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (
        200,
        "text/event-stream",
    )
    assert answer.content == b""


async def test_probes_have_the_names_that_others_give_them(http, keyed):
    """/health is vLLM's, and needs no key; /version does."""
    assert (await http.get("/health")).json() == {"status": "healthy"}
    assert (await http.get("/version")).json() == {"version": __version__, "engine": "fake"}
    async with keyed() as client:
        assert [(await client.get(path)).status_code for path in ("/health", "/", "/version")] == [
            200,
            200,
            401,
        ]


async def test_an_engine_that_does_not_answer_is_unhealthy(fleet, http):
    """503, as orchestrators expect."""
    fleet.engine.die()
    answer = await http.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "unhealthy"})


async def test_the_front_page_says_what_this_is(http):
    """For a browser a page without scripts, else text; it names routes and no planner."""
    text = (await http.get("/", headers={"accept": "*/*"})).text
    page = await http.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert page.headers["content-type"].startswith("text/html")
    assert ("<script" in page.text, "http://" in page.text) == (False, False)
    for found in (text, page.text):
        assert "POST /v1/plans" in found
        assert "/openapi.json" in found
        assert "p@" not in found


async def test_packed_bodies_are_read(http):
    """What gzip packed is asked as if it had been sent as it is, on our routes and the engine's."""
    chat = {"model": "p", "messages": [{"role": "user", "content": "Hello"}]}
    for path, body in (("/v1/plans", PLAN), ("/v1/chat/completions", chat)):
        plain = (await http.post(path, json=body)).json()
        answer = await http.post(path, content=gzip.compress(json.dumps(body).encode()), headers=PACKED)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == plain.keys()


@pytest.mark.parametrize(
    ("content", "encoding", "status", "code", "says"),
    [
        (
            gzip.compress(b" " * 200_000),
            "gzip",
            413,
            "body_too_large",
            "the body, unpacked, is over the limit",
        ),
        (gzip.compress(b"{}")[:-9], "gzip", 400, "invalid_body", "it ends in the middle"),
        (b"{}", "gzip", 400, "invalid_body", "it is no gzip"),
        (zlib.compress(b"{}"), "deflate", 415, "unsupported_media_type", "content-encoding 'deflate'; send"),
        (b"{}", "br", 415, "unsupported_media_type", "or packed by gzip"),
        (b"{}", "gzip, gzip", 415, "unsupported_media_type", "'gzip, gzip'"),
    ],
)
async def test_what_cannot_be_unpacked_is_refused(http, content, encoding, status, code, says):
    """With what would be read; a small body that unpacks to a large one is stopped at the limit."""
    headers = {"content-type": "application/json", "content-encoding": encoding}
    answer = await http.post("/v1/plans", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert says in answer.json()["error"]["message"]
    assert answer.headers.get("accept-encoding") == ("gzip" if status == 415 else None)


def test_unpacking_holds_no_more_than_the_limit():
    """Of several parts, too; what follows them is no part."""
    assert unpacked(gzip.compress(b"a" * 50) + gzip.compress(b"b"), 60) == b"a" * 50 + b"b"
    assert len(unpacked(gzip.compress(b"\0" * 10**7), 1000)) == 1001
    assert unpacked(gzip.compress(b""), 10) == b""
    with pytest.raises(NotUnpacked):
        unpacked(gzip.compress(b"a") + b"rest", 10)


@pytest.mark.parametrize(
    ("accept", "more", "streamed"),
    [
        ("text/event-stream", {}, True),
        ("text/event-stream", {"stream": False}, False),
        ("text/event-stream, application/json", {}, False),
        ("application/json", {"stream": True}, True),
        ("*/*", {}, False),
    ],
)
async def test_accepting_only_events_asks_for_them(http, accept, more, streamed):
    """The body's own word goes before it."""
    answer = await http.post("/v1/plans", json={**PLAN, **more}, headers={"accept": accept})
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind == ("text/event-stream" if streamed else "application/json")


async def test_pages_of_named_origins_may_ask(fleet):
    """A browser asks first, without the key; answers, refusals too, say that the page may read them."""
    settings = ServerConfig(host="0.0.0.0", cors_origins=("https://app.example",))
    transport = httpx.ASGITransport(create_app(fleet.service, settings, "the key"))
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-any"}
    async with httpx.AsyncClient(transport=transport, base_url="http://planner.example") as http:
        first = await http.options("/v1/plans", headers={"origin": "https://app.example", **asks})
        stranger = await http.options("/v1/plans", headers={"origin": "https://other.example", **asks})
        refused = await http.get("/v1/models", headers={"origin": "https://app.example"})
    assert (first.status_code, first.headers["access-control-allow-origin"]) == (200, "https://app.example")
    assert "x-any" in first.headers["access-control-allow-headers"]
    assert (stranger.status_code, "access-control-allow-origin" in stranger.headers) == (400, False)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (
        401,
        "https://app.example",
    )
    assert "x-s3lora-planner" in refused.headers["access-control-expose-headers"]


async def test_without_the_setting_no_page_may_ask(http):
    """Nothing is told of origins."""
    answer = await http.get("/v1/models", headers={"origin": "https://app.example"})
    assert [name for name in answer.headers if name.startswith("access-control")] == []


def test_every_page_may_ask_only_where_a_key_is_needed():
    """'*' on a server without keys would open this machine's port to the whole web."""
    with pytest.raises(ConfigError, match="lets every web page ask"):
        ServerConfig(cors_origins=("*",)).keys({})
    assert ServerConfig(cors_origins=("*",)).keys({"S3LORA_API_KEY": "k"}) == {"default": "k"}
    for origin in ("app.example", "https://app.example/", "https://APP.example"):
        with pytest.raises(ValueError, match="write scheme, host and port"):
            ServerConfig(cors_origins=(origin,))


async def test_answers_are_typed(http):
    """Each route that only tells has a schema, which its answer fits; nothing of it is undescribed."""
    described = (await http.get("/openapi.json")).json()
    assert "/" in described["paths"]
    for path in TOLD:
        known = path.replace("models/p", "models/{name}").replace("planners/p", "planners/{name}")
        answer = (await http.get(path)).json()
        content = described["paths"][known]["get"]["responses"]["200"]["content"]["application/json"][
            "schema"
        ]
        assert set(content) == {"$ref"}, path
        schema = {**content, "components": described["components"]}
        jsonschema.validate(answer, schema)
        fields = described["components"]["schemas"][content["$ref"].rpartition("/")[2]]["properties"]
        assert set(answer) <= set(fields), path


async def test_the_description_is_ready_at_the_start(fleet, monkeypatch):
    """It is made before anything is asked: the first reader does not wait for it."""
    app = create_app(fleet.service, ServerConfig(), None)
    async with app.router.lifespan_context(app):
        monkeypatch.setattr(fleet.engine, "openai_app", lambda: pytest.fail("asked again"))
        assert "/v1/plans" in app.openapi()["paths"]
