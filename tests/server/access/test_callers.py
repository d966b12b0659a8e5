"""Who calls is known by the key alone."""

from __future__ import annotations

import json

import httpx
import pytest
from asgi_call import AsgiCall
from fleet_factory import make_fleet
from request_kinds import KINDS
from scripted_judge import ScriptedJudge, guards_by
from starlette.responses import JSONResponse

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.access.auth import RequireKey, by_caller
from s3lora_serve.server.app import create_app

KEYS = {"default": "key-one", "lab": "key-two", "web": "schlüssel"}


async def caller_of(keys, header):
    """Status, and the caller that the application is told."""

    async def tell(scope, receive, send):
        await JSONResponse(scope["state"]["caller"])(scope, receive, send)

    transport = httpx.ASGITransport(RequireKey(tell, keys))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        answer = await http.get("/x", headers={} if header is None else {"authorization": header})
    return answer.status_code, answer.json() if answer.status_code == 200 else None


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"Bearer key-one", (200, "default")),
        (b"Bearer key-two", (200, "lab")),
        ("Bearer schlüssel".encode(), (200, "web")),
        (b"Bearer key-three", (401, None)),
        (b"Basic key-two", (401, None)),
        (b"Bearer lab", (401, None)),
        (None, (401, None)),
    ],
)
async def test_a_key_names_its_caller(header, told):
    """Each key opens, and any other or none does not."""
    assert await caller_of(KEYS, header) == told


async def test_without_keys_everybody_is_anyone():
    """Also with a key that nobody asked for, which proves nothing."""
    for header in (None, b"Bearer key-two"):
        assert await caller_of({}, header) == (200, "anyone")


async def test_named_callers_alone_will_do():
    """Without the default key only they are answered."""
    keys = {"lab": "key-two"}
    assert await caller_of(keys, b"Bearer key-two") == (200, "lab")
    assert (await caller_of(keys, None))[0] == 401


def test_one_key_is_the_default_callers():
    """Empty ones are none."""
    assert by_caller(" k ") == {"default": "k"}
    assert by_caller({"a": " ", "b": "k"}) == {"b": "k"}
    assert by_caller(None) == by_caller("") == {}


@pytest.mark.parametrize("kind", ["chat", "text", "plan"])
async def test_the_guard_is_told_the_caller(tmp_path, kind):
    """Of every route, and nothing that the body says of itself."""
    judge = ScriptedJudge()
    fleet = make_fleet(tmp_path, "p", guards=guards_by(judge, "p", allow=("web",)))
    await fleet.start()
    path, body = KINDS[kind]
    body = body if kind == "plan" else {**body, "user": "web"}
    app = create_app(fleet.service, ServerConfig(), KEYS)
    for key in ("key-one", "key-two", "schlüssel"):
        call = AsgiCall(app, path, body, {"authorization": f"Bearer {key}"})
        await call
        assert (call.status, "error" in json.loads(call.text)) == (200, False)
    assert [caller for _, caller in judge.asked] == ["default", "lab"]
    await fleet.close()
