"""Over a real socket: streams arrive as they are made, and a client that leaves stops the engine."""

from __future__ import annotations

import asyncio
import json

import pytest
from live_server import live
from request_kinds import held, until
from stall import stall

BODIES = {
    "/v1/chat/completions": {"model": "p", "messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"model": "p", "prompt": "x"},
    "/v1/plans": {"planner": "p", "task": "x", "tools": [{"name": "Search"}]},
}


def requests(fleet, outcome):
    """How many requests of p ended this way."""
    wanted = f's3lora_requests_total{{outcome="{outcome}",planner="p"}} '
    lines = fleet.service.metrics.exposition().decode().splitlines()
    return next(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))


async def test_a_stream_arrives_piece_by_piece(fleet):
    """Three words are there before the fourth is made: nothing on the way holds the stream back."""
    stall(fleet.engine, after=3)
    text = ""
    async with live(fleet) as http:
        body = {**BODIES["/v1/chat/completions"], "stream": True}
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    text += json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"]
                if text == "This is answer":
                    break


@pytest.mark.parametrize("path", sorted(BODIES))
async def test_a_client_that_leaves_stops_its_request(fleet, path):
    """A stream, or a plan in the making, whose client is gone is aborted and does not run to its end."""
    body = BODIES[path] if path == "/v1/plans" else {**BODIES[path], "stream": True}
    async with live(fleet, 30) as http:
        asking = asyncio.create_task(http.post(path, json=body))
        await until(lambda: held(fleet) == (1, 1))
        asking.cancel()
        await until(lambda: requests(fleet, "aborted"))
    assert (requests(fleet, "aborted"), requests(fleet, "ok")) == (1, 0)


async def test_many_at_once_are_all_answered(fleet):
    """A hundred requests of all kinds at the same time each get their own planner's answer."""
    async with live(fleet, 0.0) as http:
        names = ["p", "q", "h"]
        answers = await asyncio.gather(
            *(
                http.post(
                    "/v1/plans", json={**BODIES["/v1/plans"], "planner": names[i % 3], "task": f"task {i}"}
                )
                for i in range(100)
            )
        )
    assert [(a.status_code, a.json()["meta"]["planner"]) for a in answers] == [
        (200, names[i % 3]) for i in range(100)
    ]
