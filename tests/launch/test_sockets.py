"""The server's address: one server gets it, and the other is told why not."""

from __future__ import annotations

import asyncio
import socket

import pytest

from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.sockets import bound, listen

HOST = "127.0.0.1"


def test_the_second_of_two_servers_that_start_together_is_refused():
    """Neither listens yet, which is when Linux would let both have the port."""
    with bound(HOST, 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError) as refused, bound(HOST, port):
            pass
    assert str(refused.value).startswith(f"cannot listen on {HOST}:{port}: Address already in use; ")
    assert "--port" in refused.value.hint


def test_a_given_back_address_can_be_taken_again_at_once():
    """Also when connections of the last server are still in TIME_WAIT."""
    with bound(HOST, 0) as first:
        port = first.getsockname()[1]
        listen(first)
        first.setblocking(True)
        with socket.create_connection((HOST, port)):
            first.accept()[0].close()  # the side that closes first keeps the connection in TIME_WAIT
    with bound(HOST, port) as second:
        listen(second)
        assert second.getsockname()[1] == port


def test_nobody_is_kept_waiting_before_it_listens():
    """A connection is refused until the server lets clients in."""
    with bound(HOST, 0) as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.getsockname())
        listen(server)
        with socket.create_connection(server.getsockname()) as client:
            assert client.getpeername() == server.getsockname()


async def test_small_pieces_leave_at_once():
    """Pieces of an answer do not wait for acknowledgements: its connections have TCP_NODELAY."""
    options = asyncio.get_running_loop().create_future()

    async def connected(_, writer):
        accepted = writer.get_extra_info("socket")
        options.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with bound(HOST, 0) as server:
        async with await asyncio.start_server(connected, sock=server):
            with socket.create_connection(server.getsockname()):
                assert await options != 0


def test_a_program_that_took_the_port_meanwhile_is_told_of():
    """One that is not ours can bind and listen while the engine starts; that is said as at the beginning."""
    with bound(HOST, 0) as ours, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(ours.getsockname())
        except OSError:
            pytest.skip("this system gives a port to one socket only")
        other.listen()
        with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:\d+: Address already in use"):
            listen(ours)
