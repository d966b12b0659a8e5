"""Clients that read nothing, send junk behind a request, or leave with several requests under way."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import asynccontextmanager

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse

from s3lora_serve.launch.http_protocol import HttpLimits
from s3lora_serve.launch.servers import Server

PIECE, PIECES = b"x" * 65_536, 250  # together more than the system holds for a client
GET = b"GET /%s HTTP/1.1\r\nhost: x\r\n\r\n"


class App:
    """Answers ``/much`` at length and all else in a word, ``/wait`` not before its client has left."""

    def __init__(self):
        self.left = 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        if scope["path"] == "/wait":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
        answer = PlainTextResponse("here")
        if scope["path"] == "/much":
            answer = StreamingResponse(PIECE for _ in range(PIECES))
        await answer(scope, receive, send)


@asynccontextmanager
async def connected(app, *, window=4096, **limits):
    """A connection to a server of the application, and that server; ``window``: bytes, little by default."""
    with socket.socket() as tcp, socket.socket() as client:
        tcp.bind(("127.0.0.1", 0))
        server = Server(app, lambda: None, HttpLimits(**limits))
        running = asyncio.ensure_future(server.serve(sockets=[tcp]))
        while not server.started:
            await asyncio.sleep(0.005)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, tcp.getsockname())
        try:
            yield client, server
        finally:
            client.close()
            server.stop()
            async with asyncio.timeout(10):
                await running


async def until(true, seconds=10.0):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_client_that_reads_nothing_is_closed():
    """Also with its next requests under way; else it could hold its connection, and all of them, for ever."""
    async with connected(App(), unread_seconds=0.1) as (client, server):
        client.send(GET % b"much" + GET % b"")
        await until(lambda: server.server_state.connections)
        await until(lambda: not server.server_state.connections and not server.requests)


async def test_a_client_that_reads_slowly_gets_it_all():
    """However long that takes, as long as it reads anything."""
    loop, got, whole = asyncio.get_running_loop(), 0, len(PIECE) * PIECES
    async with connected(App(), window=2**20, unread_seconds=1.0) as (client, _):
        client.send(GET % b"much")
        slow = loop.time() + 3.0
        while got < whole:
            read = await loop.sock_recv(client, whole // 30)
            assert read, "it was closed"
            got += len(read)
            await asyncio.sleep(0.1 if loop.time() < slow else 0)


@pytest.mark.parametrize("path", [b"wait", b"", b"much"])
async def test_junk_behind_a_request_ends_it_and_writes_no_error(path, caplog):
    """Its client is told what is wrong with the junk, and the request that it has left."""
    app = App()
    async with connected(app, unread_seconds=0.5) as (client, server):
        client.send(GET % path + b"junk\r\n\r\n")
        reader = await asyncio.get_running_loop().sock_recv(client, 4096)
        assert reader.startswith(b"HTTP/1.1 400 ")
        await until(lambda: not server.requests)
    assert app.left == (path == b"wait")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_every_request_of_a_connection_sees_that_its_client_left():
    """Also one with another behind it: each would run on, or follow changes for ever."""
    app = App()
    async with connected(app) as (client, server):
        client.send(GET % b"wait" + GET % b"wait")
        await until(lambda: server.requests)
        client.close()
        await until(lambda: not server.requests)
    assert app.left == 1
