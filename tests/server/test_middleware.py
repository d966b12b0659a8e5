"""Request ids, and uncaught errors."""

from __future__ import annotations

import logging

import pytest
from echo_app import client, echo

from s3lora_serve.server.middleware import RequestScope

LIMIT = 100


@pytest.mark.parametrize("given_id", ["abc", "chat:1.2-3_4", "x" * 128])
async def test_a_plain_request_id_is_kept(given_id):
    """A client can follow its request by its own id."""
    async with client(RequestScope(echo, lambda scope, status: None)) as http:
        answer = await http.get("/", headers={"x-request-id": given_id})
    assert answer.headers.get_list("x-request-id") == [given_id]


@pytest.mark.parametrize("given_id", [None, "", "x" * 129, "a b", "a/../b", b"\xff", "a\tb"])
async def test_any_other_is_replaced(given_id):
    """An id that is missing, long or odd is replaced by 32 hex digits, since it goes into logs."""
    async with client(RequestScope(echo, lambda scope, status: None)) as http:
        answer = await http.get("/", headers={} if given_id is None else {"x-request-id": given_id})
    (made,) = answer.headers.get_list("x-request-id")
    assert (len(made), set(made) <= set("0123456789abcdef")) == (32, True)


async def test_what_nobody_caught_is_a_500_that_names_the_request(caplog):
    """The client learns the id and nothing of the defect; the log has the defect under that id."""

    async def broken(scope, receive, send):
        raise RuntimeError("secret /srv/detail")

    counted = []
    app = RequestScope(broken, lambda scope, status: counted.append(status))
    with caplog.at_level(logging.ERROR):
        async with client(app) as http:
            answer = await http.get("/", headers={"x-request-id": "r1"})
    assert (answer.status_code, answer.json()["error"], counted) == (
        500,
        {
            "message": "an unexpected error; the server's log has it under request id r1",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        },
        [500],
    )
    assert "secret /srv/detail" in caplog.text
    assert "request r1 failed" in caplog.text


async def test_a_failure_in_mid_answer_is_counted_by_what_was_sent(caplog):
    """Once an answer began nothing else can be sent, and the count is of what the client saw."""

    async def breaks_off(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    sent, counted = [], []

    async def send(message):
        sent.append(message["type"])

    app = RequestScope(breaks_off, lambda scope, status: counted.append(status))
    await app({"type": "http", "headers": []}, None, send)
    assert (sent, counted) == (["http.response.start"], [200])


async def test_a_client_that_left_before_the_answer_counts_as_499():
    """A request without any answer is not counted as a success."""

    async def silent(scope, receive, send):
        return

    counted = []
    await RequestScope(silent, lambda scope, status: counted.append(status))(
        {"type": "http", "headers": []}, None, None
    )
    assert counted == [499]
