"""Bodies are bounded in size, time and memory before anything sees them."""

from __future__ import annotations

import asyncio
import json

from echo_app import client, echo
from hypothesis import given
from hypothesis import strategies as st

from s3lora_serve.server.concurrency import ConcurrencyLimit
from s3lora_serve.server.http.body_limit import BodyLimit, replay

LIMIT = 100


async def chunks(sizes):
    """A body of unknown length, in pieces."""
    for size in sizes:
        yield b"x" * size


@given(st.lists(st.integers(0, 60), max_size=6))
async def test_a_body_passes_exactly_up_to_the_limit(sizes):
    """However it is cut into pieces, a body of at most the limit arrives whole and a longer one gets 413."""
    async with client(BodyLimit(echo, LIMIT)) as http:
        answer = await http.post("/", content=chunks(sizes))
    total = sum(sizes)
    assert (answer.status_code, answer.text if total <= LIMIT else "") == (
        (200, str(total)) if total <= LIMIT else (413, "")
    )


async def test_a_declared_length_over_the_limit_is_refused_unread():
    """A body that says it is too long is answered before anything of it is read."""
    events = []

    async def receive():
        events.append("read")
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        events.append(message.get("status") or json.loads(message["body"] or "{}"))

    scope = {"type": "http", "headers": [(b"content-length", str(10**30).encode())]}
    await BodyLimit(echo, LIMIT)(scope, receive, send)
    status, answer, *rest = events
    assert (status, answer["error"]["code"], rest) == (413, "body_too_large", ["read", {}])


async def test_a_body_that_does_not_come_is_given_up():
    """A client that trickles its body does not hold the connection for ever."""

    async def never():
        await asyncio.sleep(60)

    sent = []

    async def send(message):
        sent.append(message)

    await BodyLimit(echo, LIMIT, seconds=0.01)({"type": "http", "headers": []}, never, send)
    assert (sent[0]["status"], (b"connection", b"close") in sent[0]["headers"]) == (408, True)


async def test_a_client_that_left_gets_no_answer():
    """A connection that closes before the body is complete reaches nothing and sends nothing."""

    async def gone():
        return {"type": "http.disconnect"}

    sent = []

    async def send(message):
        sent.append(message)

    await BodyLimit(echo, LIMIT)({"type": "http", "headers": []}, gone, send)
    assert sent == []


async def test_replay_gives_the_body_once_and_then_the_client():
    """After the body comes what the client does: engines watch that to stop for a client that left."""

    async def gone():
        return {"type": "http.disconnect"}

    receive = replay(b"body", gone)
    assert [await receive(), await receive()] == [
        {"type": "http.request", "body": b"body", "more_body": False},
        {"type": "http.disconnect"},
    ]


class Sender:
    """A client that sends piece by piece: both ends of one request, and what it was answered."""

    def __init__(self, *pieces, holds=False):
        self.pieces, self.holds = list(pieces), holds
        self.statuses, self.ended, self.go_on = [], False, asyncio.Event()

    async def receive(self):
        if not self.pieces and self.holds:
            await self.go_on.wait()
        piece = self.pieces.pop(0) if self.pieces else b""
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or self.holds}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])
        else:
            self.ended = not message.get("more_body", False)

    async def ask(self, app):
        await app({"type": "http", "path": "/x", "headers": []}, self.receive, self.send)
        return self.statuses


async def test_a_stalled_body_is_given_up_before_its_time():
    """Nothing for a while is enough; a slow one that goes on is read to its end."""
    limit = BodyLimit(echo, LIMIT, seconds=60, stall_seconds=0.05)
    stalled = Sender(b"x", holds=True)
    asking = asyncio.ensure_future(stalled.ask(limit))
    while not stalled.statuses:
        await asyncio.sleep(0.01)
    stalled.holds = False
    stalled.go_on.set()
    assert (await asking, stalled.ended) == ([408], True)
    assert await Sender(b"x", b"y").ask(limit) == [200]


async def test_an_answer_comes_while_the_client_still_sends_and_the_rest_is_read():
    """Closed with unread bytes the connection would be reset, and the answer be lost with it."""
    sender = Sender(*[b"x" * 60] * 50)
    assert (await sender.ask(BodyLimit(echo, LIMIT)), sender.ended, sender.pieces) == ([413], True, [])


async def test_unfinished_bodies_share_their_memory():
    """One too many is told to come again; those that are small, or whole, take nothing from others."""
    limit = BodyLimit(echo, LIMIT, held_bytes=150)
    holding = Sender(b"x" * 100, holds=True)
    first = asyncio.ensure_future(holding.ask(limit))
    await asyncio.sleep(0)
    assert await Sender(b"x" * 60, b"x").ask(limit) == [429]
    assert await Sender(b"x" * 40, b"x").ask(limit) == [200]
    assert await Sender(b"x" * 100).ask(limit) == [200]
    holding.holds = False
    holding.go_on.set()
    assert await first == [200]
    assert await Sender(b"x" * 60, b"x").ask(limit) == [200]


async def test_half_sent_bodies_take_no_place_in_the_crowd():
    """A hundred of them, and a whole request is answered at once."""
    limit = BodyLimit(ConcurrencyLimit(echo, most=1, paths=["/x"]), LIMIT)
    half = [Sender(b"x", holds=True) for _ in range(100)]
    asking = [asyncio.ensure_future(sender.ask(limit)) for sender in half]
    await asyncio.sleep(0)
    assert await Sender(b"x").ask(limit) == [200]
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
