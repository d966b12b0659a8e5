"""Requests over the real engine that end early, outlast a swap or ask for several answers."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest
import pytest_asyncio
import uvicorn
from real_fleet import ASK, BEARER, counted, real_fleet

pytestmark = pytest.mark.engine


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(vllm_engine, demo_base, client_of, tmp_path_factory):
    """Planner p."""
    root = tmp_path_factory.mktemp("my store")
    async with real_fleet(vllm_engine, demo_base, client_of, root, "p") as fleet:
        yield fleet


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_its_request(served, stream):
    """Over a socket: the engine aborts the request of a client that is gone, streamed or not."""
    before = counted(served, "aborted")
    body = {"model": "p", **ASK, "stream": stream, "max_tokens": 1500, "ignore_eos": True}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        # Without its lifespan: vLLM's deletes the application's state when it ends, and other tests use it.
        server = uvicorn.Server(uvicorn.Config(served.app, log_config=None, lifespan="off"))
        running = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        async with httpx.AsyncClient(headers=BEARER) as http:
            with pytest.raises(httpx.ReadTimeout if not stream else TimeoutError):
                async with asyncio.timeout(1):
                    await http.post(url, json=body, timeout=1 if stream else 0.5)
        for _ in range(100):
            if counted(served, "aborted") > before:
                break
            await asyncio.sleep(0.05)
        server.should_exit = True
        await running
    assert counted(served, "aborted") - before == 1
    assert served.held() == (0, 0)


async def text_of(served, **more):
    """p's greedy answer, whole, and the revision that gave it."""
    answer = await served.http.post("/v1/chat/completions", json={"model": "p", **ASK, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], answer.headers["x-s3lora-revision"]


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

    Rolled back, p says again what it said before. Nothing is held in the end.
    """
    old_text, old = await text_of(served)
    body = {"model": "p", **ASK, "stream": True, "max_tokens": 200, "ignore_eos": True}
    long_text, _ = await text_of(served, max_tokens=200, ignore_eos=True)
    chunks, begun = [], asyncio.Event()

    async def stream():
        async with served.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    chunks.append(json.loads(line[6:]))
                    begun.set()
            return answer.headers["x-s3lora-revision"]

    streaming = asyncio.ensure_future(stream())
    swapped = await ordered(served, "swap", {"source": str(served.sources / "n"), "reason": "newer"})
    assert swapped["step"] in ("draining", "done"), swapped
    new_text, new = await text_of(served)
    assert (await streaming, begun.is_set()) == (old, True)
    # bfloat16 depends on what shares the batch, so only the beginning must agree.
    parts = [c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]]
    assert "".join(parts)[:40] == long_text[:40]
    assert {c["system_fingerprint"].rpartition("/")[2] for c in chunks} == {old[:12]}
    assert (chunks[-1]["s3lora"]["revision"], chunks[-1]["usage"]["completion_tokens"]) == (old, 200)
    assert (new == old, new_text == old_text, swapped["to_digest"]) == (False, False, new)
    back = await ordered(served, "rollback", {})
    assert back["step"] in ("draining", "done"), back
    assert await text_of(served) == (old_text, old)
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
    body = {**three, "max_tokens": 1500, "ignore_eos": True}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await served.http.post("/v1/chat/completions", json=body)
    for _ in range(200):
        if served.held() == (0, 0):
            break
        await asyncio.sleep(0.01)
    assert served.held() == (0, 0)
