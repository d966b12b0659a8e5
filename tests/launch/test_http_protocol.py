"""What comes before any key is checked costs little, however it is sent."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from s3lora_serve.launch.http_protocol import HttpLimits
from s3lora_serve.launch.servers import Server

GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
KIB = 1024


async def app(scope, receive, send):
    """Answer with the number of headers and the length of the body."""
    if scope["type"] == "http":
        body = await Request(scope, receive).body()
        await PlainTextResponse(f"{len(scope['headers'])} {len(body)}")(scope, receive, send)


@asynccontextmanager
async def served(**limits):
    """``ask(*pieces)``: status and text of the answer to these bytes, and the statuses that were counted."""
    counted = []

    def refused(status, peer):
        assert peer == "127.0.0.1"
        counted.append(status)

    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        server = Server(app, lambda: None, HttpLimits(**limits, refused=refused))
        running = asyncio.ensure_future(server.serve(sockets=[tcp]))
        while not server.started:
            await asyncio.sleep(0.005)

        async def ask(*pieces, hold=None):
            reader, writer = await asyncio.open_connection(*tcp.getsockname())
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                if hold is not None:
                    await hold(writer)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                return int(head.split()[1]), (await reader.readexactly(length)).decode()
            finally:
                writer.close()

        try:
            yield ask, counted
        finally:
            server.stop()
            await running


def told(answer):
    """Status, code and message of an error."""
    status, text = answer
    error = json.loads(text)["error"]
    return status, error["code"], error["message"]


async def test_headers_over_the_limit_are_refused_while_they_come():
    """In a header, the path, a trailer or a chunk; what still comes is not kept, and the answer arrives."""
    too_large = (431, "headers_too_large", "the headers are over the limit of 8 KiB")

    async def on_and_on(writer):
        for _ in range(100):
            writer.write(b"x" * 64 * KIB)
            await writer.drain()

    async with served(header_bytes=8 * KIB) as (ask, counted):
        assert told(await ask(GET, b"a: " + b"x" * 30 * KIB)) == too_large
        assert told(await ask(b"GET /" + b"x" * 30 * KIB)) == too_large
        assert told(await ask(POST, b"1\r\nx\r\n0\r\na: " + b"x" * 40 * KIB)) == too_large
        assert told(await ask(POST, b"1;" + b"x" * 40 * KIB)) == too_large
        assert told(await ask(GET, b"a: ", hold=on_and_on)) == too_large
        assert await ask(GET, b"a: 1\r\n\r\n") == (200, "2 0")
    assert counted == [431] * 5


async def test_too_many_headers_are_refused():
    """Each costs time, however short it is."""
    async with served(headers=20) as (ask, counted):
        assert await ask(GET, b"a: 1\r\n" * 19, b"\r\n") == (200, "20 0")
        assert told(await ask(GET, b"a: 1\r\n" * 20, b"\r\n")) == (
            431,
            "headers_too_large",
            "there are more than 20 headers",
        )
    assert counted == [431]


@pytest.mark.parametrize("begun", [b"", GET, b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"])
async def test_headers_that_do_not_come_are_not_waited_for(begun):
    """None at all, a few at a time, line breaks for ever, or after an answer: the connection is closed."""

    async def drip(writer):
        for _ in range(60):
            writer.write(b"\r\n" if begun in (b"\r\n\r\n", b"") or b"\r\n\r\n" in begun else b"a: 1\r\n")
            await asyncio.sleep(0.02)

    async with served(header_seconds=0.3) as (ask, counted):
        answer = await ask(begun, hold=drip if begun else None)
        if answer[0] == 200:
            assert counted == [408]  # the second request never came
        else:
            assert told(answer) == (408, "headers_timeout", "the headers did not arrive within 0.3 seconds")
        assert await ask(GET, b"\r\n") == (200, "1 0")


async def test_a_body_may_take_its_time_and_small_chunks():
    """Its limits are the application's; chunks of one byte are no headers."""

    async def slowly(writer):
        for _ in range(2000):
            writer.write(b"1\r\nx\r\n")
        await asyncio.sleep(0.6)
        writer.write(b"0\r\n\r\n")

    async with served(header_seconds=0.3, header_bytes=4 * KIB) as (ask, counted):
        assert await ask(POST, hold=slowly) == (200, "2 2000")
    assert counted == []


async def test_more_connections_than_there_may_be_are_told_so():
    """At once, with the time to come again; those that are open go on."""
    async with served(connections=2) as (ask, counted):

        async def meanwhile(writer):
            async def more(writer):
                assert told(await ask(GET, b"\r\n"))[:2] == (503, "overloaded")
                writer.write(b"\r\n")

            assert await ask(GET, hold=more) == (200, "1 0")
            writer.write(b"\r\n")

        assert await ask(GET, hold=meanwhile) == (200, "1 0")
        await asyncio.sleep(0.05)
        assert await ask(GET, b"\r\n") == (200, "1 0")
    assert counted == [503]


@pytest.mark.parametrize("junk", [b"\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n bad\r\n\r\n"])
async def test_what_is_no_http_is_answered_as_every_other_error(junk):
    """As JSON."""
    async with served() as (ask, counted):
        assert told(await ask(junk)) == (400, "invalid_http", "this is not valid HTTP")
    assert counted == [400]


async def test_an_upgrade_is_ignored():
    """There are no web sockets here: it is a request like any other."""
    async with served() as (ask, counted):
        upgrade = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
        assert await ask(GET, upgrade) == (200, "3 0")
    assert counted == []
