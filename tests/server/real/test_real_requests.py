"""Requests over the real engine that end early, outlast a swap or ask for several answers."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest
import uvicorn
from orders import until
from real_fleet import ASK, BEARER, DICTATED, NOISE, counted, distance, served_by, told

pytestmark = pytest.mark.engine


served = served_by("p")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_its_request(served, stream):
    """Over a socket: the engine aborts the request of a client that is gone, streamed or not."""
    before = counted(served, "aborted")
    body = {"model": "p", **ASK, "stream": stream, "max_tokens": 1500}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        # Without its lifespan: vLLM's deletes the application's state when it ends, and other tests use it.
        server = uvicorn.Server(uvicorn.Config(served.app, log_config=None, lifespan="off"))
        running = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        async with httpx.AsyncClient(headers=BEARER, timeout=60) as http:
            asking = asyncio.create_task(http.post(url, json=body))
            await until(lambda: served.held() == (1, 1))
            asking.cancel()
            await asyncio.wait((asking,))
        await until(lambda: counted(served, "aborted") > before)
        server.should_exit = True
        await running
    assert counted(served, "aborted") - before == 1
    assert served.held() == (0, 0)


async def ordered(served, path, body):
    """The operation that an order began, ended."""
    answer = await served.admin.post(f"/admin/planners/p/{path}", json=body)
    assert answer.status_code in (200, 202), answer.text
    operation = answer.json()
    while operation["step"] not in ("draining", "done", "failed"):
        operation = (await served.admin.get(f"/admin/operations/{operation['id']}?wait=5")).json()
    return operation


async def test_a_swap_and_its_rollback_under_a_stream(served):
    """A stream that began before the swap ends on its own revision; what begins later runs on the new one.

    Rolled back, p answers as before. Nothing is held in the end.
    """
    was, old = await told(served)
    long, _ = await told(served, max_tokens=100)
    body = {"model": "p", **ASK, **DICTATED, "logprobs": True, "stream": True, "max_tokens": 100}
    chunks = []

    async def stream():
        async with served.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    chunks.append(json.loads(line[6:]))
            return answer.headers["x-s3lora-revision"]

    streaming = asyncio.ensure_future(stream())
    await until(lambda: served.held() == (1, 1))
    swapped = await ordered(served, "swap", {"source": str(served.sources / "n"), "reason": "newer"})
    assert swapped["step"] in ("draining", "done"), swapped
    now, new = await told(served)
    assert await streaming == old
    pieces = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"]]
    streamed = [token["logprob"] for piece in pieces if piece for token in piece["content"]]
    assert distance(streamed, long) <= NOISE
    assert {c["system_fingerprint"].rpartition("/")[2] for c in chunks} == {old[:12]}
    assert (chunks[-1]["s3lora"]["revision"], chunks[-1]["usage"]["completion_tokens"]) == (old, 100)
    assert (new == old, distance(was, now) > 3 * NOISE, swapped["to_digest"]) == (False, True, new)
    back = await ordered(served, "rollback", {})
    assert back["step"] in ("draining", "done"), back
    again, digest = await told(served)
    assert (digest, distance(was, again) <= NOISE) == (old, True)
    assert served.held() == (0, 0)
    history = (await served.admin.get("/admin/history?planner=p")).json()["data"]
    assert {"swap.flipped", "rollback.flipped"} <= {entry["action"] for entry in history}
    findings = (await served.admin.get("/admin/verify")).json()["findings"]
    assert [found for found in findings if not found["ok"]] == []


async def test_three_answers_and_a_cancelled_request_leave_nothing(served):
    """n=3 is one request with one lease; so is one whose client stops waiting."""
    three = {"model": "p", **ASK, "n": 3, "temperature": 1}  # vLLM takes no n over 1 with greedy decoding
    answer = await served.http.post("/v1/chat/completions", json=three)
    assert (answer.status_code, len(answer.json()["choices"]), served.held()) == (200, 3, (0, 0))
    asking = asyncio.create_task(served.http.post("/v1/chat/completions", json={**three, "max_tokens": 1500}))
    await until(lambda: served.held() == (1, 1))
    asking.cancel()
    await asyncio.wait((asking,))
    await until(lambda: served.held() == (0, 0))
