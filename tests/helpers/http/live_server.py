"""A fleet behind uvicorn on a real socket, which says and does what no in-process client can."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager, nullcontext

import httpx
import uvicorn

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app

_LEASES = re.compile(r'^s3lora_leases_total\{outcome="(\w+)",planner="p",role="(\w+)"\} ([\d.]+)$', re.M)


@asynccontextmanager
async def listening(app):
    """The application behind uvicorn on a free port of this machine: its address."""
    # asyncio turns Nagle's delays off only where the protocol is named.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as tcp:
        tcp.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2))
        server.capture_signals = nullcontext  # signals are the main thread's
        running = asyncio.ensure_future(server.serve(sockets=[tcp]))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{tcp.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def live(fleet, seconds_per_token=0.0, settings=None):
    """A client of the fleet's server."""
    fleet.engine.seconds_per_token = seconds_per_token
    async with (
        listening(create_app(fleet.service, settings or ServerConfig(), None)) as url,
        httpx.AsyncClient(base_url=url, timeout=60) as http,
    ):
        yield http


def leases(fleet):
    """How many requests of p ended, by role and outcome."""
    found = _LEASES.findall(fleet.service.metrics.exposition().decode())
    return {(role, outcome): int(float(count)) for outcome, role, count in found if float(count)}
