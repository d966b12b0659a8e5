"""Who may ask, and from where."""

from __future__ import annotations

import logging

import httpx
import pytest
from starlette.responses import PlainTextResponse

from s3lora_serve.errors import ConfigError
from s3lora_serve.server.access.auth import RequireKey, check_binding

KEY = "correct-horse-battery-staple"


def client(api_key, base_url="http://127.0.0.1:8000"):
    """A client of a guarded application that answers everything."""
    app = RequireKey(PlainTextResponse("in"), api_key)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "::1", "[::1]", "::ffff:127.0.0.1", "a.localhost"],
)
def test_loopback_needs_no_key(host):
    """Only this machine reaches these."""
    check_binding(host, None)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",
        "::",
        "",
        "10.0.0.1",
        "192.168.1.2",
        "example.com",
        "localhost.example.com",
        "127.0.0.1.nip.io",
    ],
)
def test_others_need_a_key(host):
    """Where others can reach it, a server without a key does not start, and the message says what to do."""
    with pytest.raises(ConfigError) as refused:
        check_binding(host, None)
    assert str(refused.value) == (
        f"server.host is {host!r}, which others can reach, and there is no API key;"
        " set the API key in the environment, or listen on 127.0.0.1"
    )
    assert check_binding(host, KEY) is None


def test_an_empty_key_is_no_key():
    """An environment variable that is set to nothing does not open the port."""
    with pytest.raises(ConfigError):
        check_binding("0.0.0.0", "")


@pytest.mark.parametrize("header", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY}", f"Bearer {KEY} "])
async def test_the_key_opens(header):
    """The key as a bearer token opens every path; the scheme's case does not matter (RFC 7235)."""
    async with client(KEY) as http:
        answer = await http.get("/v1/models", headers={"authorization": header})
    assert (answer.status_code, answer.text) == (200, "in")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        KEY,
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY}x",
        f"Bearer {KEY.upper()}",
        b"Bearer \xff\xfe",
        f"Bearer {KEY},{KEY}",
        "Bearer null",
    ],
)
@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/openapi.json", "/nope", "/livez/", "/livez//", "/LIVEZ"]
)
async def test_anything_else_does_not(header, path):
    """Without the exact key every path but the two probes is closed, also those that do not exist."""
    async with client(KEY) as http:
        answer = await http.get(path, headers={} if header is None else {"authorization": header})
    assert (answer.status_code, answer.headers["www-authenticate"], answer.json()) == (
        401,
        "Bearer",
        {
            "error": {
                "message": "a valid API key is needed; send it as 'Authorization: Bearer KEY'",
                "type": "authentication_error",
                "param": None,
                "code": "invalid_api_key",
            }
        },
    )


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "POST", "DELETE", "TRACE"])
async def test_no_method_goes_round_the_key(method):
    """vLLM lets OPTIONS through without a key; here no method is an exception."""
    async with client(KEY) as http:
        assert (await http.request(method, "/v1/models")).status_code == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_probes_are_open(path):
    """Orchestrators ask without credentials, under whatever name they know the server by."""
    async with client(KEY, "http://10.1.2.3:8000") as http:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "localhost"])
async def test_without_a_key_this_machine_is_answered(host):
    """On loopback without a key, requests that name loopback pass."""
    async with client(None) as http:
        assert (await http.get("/v1/models", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1", "[::1]evil.example", ":8000"],
)
async def test_without_a_key_other_names_are_not(host):
    """A web page that resolves its own name to 127.0.0.1 (DNS rebinding) is refused."""
    async with client(None) as http:
        answer = await http.get("/v1/models", headers={"host": host})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden_host")


async def test_websockets_are_closed():
    """vLLM has websocket routes; no handshake gets through to anything."""
    sent = []

    async def send(message):
        sent.append(message)

    await RequireKey(PlainTextResponse("in"), KEY)({"type": "websocket", "path": "/v1/realtime"}, None, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_the_key_is_not_logged(caplog):
    """Neither the server's key nor what a client tried appears in a log record."""
    with caplog.at_level(logging.DEBUG):
        async with client(KEY) as http:
            await http.get("/v1/models", headers={"authorization": "Bearer wrong-guess"})
            await http.get("/v1/models", headers={"authorization": f"Bearer {KEY}"})
    assert [
        r.getMessage() for r in caplog.records if KEY in r.getMessage() or "wrong-guess" in r.getMessage()
    ] == []
