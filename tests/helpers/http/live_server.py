"""A fleet behind uvicorn on a real socket, which says and does what no in-process client can."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import asynccontextmanager

import httpx
import uvicorn

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app

_LEASES = re.compile(r'^s3lora_leases_total\{outcome="(\w+)",planner="p",role="(\w+)"\} ([\d.]+)$', re.M)


@asynccontextmanager
async def live(fleet, seconds_per_token=0.0, limits=None):
    """A client of the fleet behind uvicorn on a free port of this machine."""
    fleet.engine.seconds_per_token = seconds_per_token
    app = create_app(fleet.service, ServerConfig(), None, limits)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        running = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.005)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=60) as http:
                yield http
        finally:
            server.should_exit = True
            await running


def leases(fleet):
    """How many requests of p ended, by role and outcome."""
    found = _LEASES.findall(fleet.service.metrics.exposition().decode())
    return {(role, outcome): int(float(count)) for outcome, role, count in found if float(count)}
