"""The client of the admin routes: what a wrong answer is taken for, and where it does not go."""

from __future__ import annotations

import getpass
import socket

import httpx
import pytest
from stub_admin import NEW, TOKEN, error, operation

from s3lora_serve.cli.fleet import admin_client
from s3lora_serve.cli.fleet.access import Access, Unreachable
from s3lora_serve.cli.fleet.admin_client import AdminClient, actor
from s3lora_serve.errors import (
    ConfigError,
    Conflict,
    ControlError,
    S3LoRAError,
    StoreError,
    UnknownOperation,
    UnknownPlanner,
)

ACCESS = Access("http://127.0.0.1:8001", TOKEN, "S3LORA_ADMIN_TOKEN")


def client_of(*answers: httpx.Response | Exception, access: Access = ACCESS) -> AdminClient:
    """A client whose server gives these answers, one after the other."""
    waiting = list(answers)

    def handle(_: httpx.Request) -> httpx.Response:
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return AdminClient(lambda: access, httpx.MockTransport(handle))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Attempts follow each other at once."""
    monkeypatch.setattr(admin_client, "PAUSE", 0.0)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "unknown_planner", UnknownPlanner),
        (404, "unknown_operation", UnknownOperation),
        (409, "conflict", Conflict),
        (404, "store_error", StoreError),
        (400, "invalid_request", ConfigError),
        (422, "source_not_allowed", ControlError),
        (401, "invalid_api_key", Unreachable),
        (503, "state_error", Unreachable),
    ],
)
def test_a_refusal_is_an_error_of_ours(status, code, kind):
    """Each code becomes the error that it stands for, with the server's words and, for scripts, its code."""
    client = client_of(httpx.Response(status, json=error(code, "the reason")))
    with client, pytest.raises(S3LoRAError) as caught:
        client.order("planners/math/swap", {}, "k")
    assert type(caught.value) is kind
    assert status == 401 or caught.value.message == "the reason"
    ours = {"invalid_request": "config_error", "invalid_api_key": "unreachable"}  # of this side of the line
    assert caught.value.code == ours.get(code, code)


def test_a_refused_token_says_where_it_is_from():
    """The operator learns which of the places holds the wrong one, and does not see it."""
    with client_of(httpx.Response(401, json=error("invalid_api_key", "x"))) as client:
        with pytest.raises(Unreachable, match="does not know the token from S3LORA_ADMIN_TOKEN") as caught:
            client.planners()
        assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, text="<html>"),
        httpx.Response(502, text="Bad Gateway"),
        httpx.Response(200, json=[1]),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(404, json=error("not_found", "GET '/admin/planners' is not served")),
        httpx.Response(200, json={"object": "list"}),
    ],
    ids=["page", "proxy", "list", "stranger", "route", "shape"],
)
def test_another_program_or_version_is_named_as_such(answer):
    """What does not answer as our admin listener does may be another port, or another version."""
    with client_of(answer) as client, pytest.raises(ControlError) as caught:
        client.planners()
    assert "may be of another version than this s3lora" in caught.value.hint


def test_what_failed_on_the_way_is_repeated():
    """A connection that breaks is no answer; a refusal is one and is not asked for again."""
    broken = httpx.ReadError("reset")
    with client_of(broken, broken, httpx.Response(200, json=operation())) as client:
        assert client.order("planners/math/swap", {}, "k")["id"] == "op-1"
    # A second question would find no answer prepared.
    refused = httpx.Response(409, json=error("conflict", "no"))
    with client_of(refused) as client, pytest.raises(Conflict):
        client.order("planners/math/swap", {}, "k")


def test_a_process_that_has_ended_is_said_to_have():
    """A stale admin.json, as kill -9 leaves one, is told apart from a server that is slow."""
    ended = Access(ACCESS.url, TOKEN, ".s3lora/admin.json", pid=2**22 + 1)
    refused = [httpx.ConnectError("refused")] * admin_client.ATTEMPTS
    with client_of(*refused, access=ended) as client, pytest.raises(Unreachable) as caught:
        client.planners()
    assert "has ended; start s3lora-serve again" in caught.value.hint


@pytest.mark.parametrize(("url", "trusted"), [(ACCESS.url, False), ("https://planners.example", True)])
def test_no_proxy_comes_between_on_this_machine(monkeypatch, url, trusted):
    """A proxy of the environment would be shown the token; for other machines it may be the only way."""
    seen = {}
    client = httpx.Client

    def spy(**options):
        seen.update(options)
        return client(**options)

    monkeypatch.setattr(httpx, "Client", spy)
    answer = httpx.Response(200, json={"data": []})
    with client_of(answer, access=Access(url, TOKEN, "x")) as ours:
        assert ours.planners() == []
    assert seen["trust_env"] is trusted


def test_a_name_stays_one_part_of_the_path():
    """What a user writes as an id cannot reach another route."""
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path)
        return httpx.Response(200, json=operation())

    with AdminClient(lambda: ACCESS, httpx.MockTransport(handle)) as client:
        client.operation("../history?x=1")
        client.operation("op-1", wait=2.5, seen="loading")
    assert asked == [
        b"/admin/operations/..%2Fhistory%3Fx%3D1",
        b"/admin/operations/op-1?wait=2.5&seen=loading",
    ]


def test_history_asks_for_what_was_given_only():
    """Without a planner the parameter is absent: an empty one would be a name."""
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        return httpx.Response(200, json={"data": [{"seq": 1, "hash": NEW}]})

    with AdminClient(lambda: ACCESS, httpx.MockTransport(handle)) as client:
        assert client.history(None, 0, 20) == [{"seq": 1, "hash": NEW}]
        client.history("math", 5, 1)
    assert asked == [{"after": "0", "limit": "20"}, {"planner": "math", "after": "5", "limit": "1"}]


def test_who_orders_is_user_and_machine(monkeypatch):
    """In the characters of a header, also for a user without a name, as containers have."""
    monkeypatch.setattr(getpass, "getuser", lambda: "jörg")
    monkeypatch.setattr(socket, "gethostname", lambda: "box")
    assert actor() == "j?rg@box"

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(getpass, "getuser", nobody)
    assert actor() == "unknown@box"
