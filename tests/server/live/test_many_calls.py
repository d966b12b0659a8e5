"""A thousand calls at once on a real socket: each is answered or told to come again, and nothing else."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter

import pytest
from live_server import leases, live
from request_kinds import CHAT, PLAN, TASK, TEXT

from s3lora_serve.config import ServerConfig

CALLS = 1000
BODIES = (
    (PLAN, TASK),
    (PLAN, {**TASK, "stream": True}),
    (CHAT, {"model": "p", "messages": [{"role": "user", "content": "x"}]}),
    (CHAT, {"model": "p", "messages": [{"role": "user", "content": "x"}], "stream": True}),
    (TEXT, {"model": "p", "prompt": "x"}),
)


@pytest.fixture
def many_files():
    """Room for both ends of every connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * CALLS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"only {hard} open files are allowed here, {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def ask(url, path, body):
    """Status, headers and body of one call on a new connection."""
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        text = json.dumps(body).encode() if body else b""
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        writer.write(head.encode() + text)
        await writer.drain()
        answer = await reader.read()
    finally:
        writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:]), rest


async def storm(url):
    """All calls at once, and a probe after every fiftieth: the answers of both."""
    calls = [ask(url, *BODIES[number % len(BODIES)]) for number in range(CALLS)]
    for at in range(CALLS, 0, -50):
        calls.insert(at, ask(url, "/livez", None))
    answers = await asyncio.gather(*calls)
    probes = [answer for at, answer in enumerate(answers) if at % 51 == 50]
    return [answer for at, answer in enumerate(answers) if at % 51 != 50], probes


@pytest.mark.parametrize("most", [1, 24, 128])
async def test_a_thousand_calls_at_once(fleet, many_files, most):
    """Every call gets 200 or 429 with Retry-After, each probe among them is answered, nothing is left."""
    async with live(fleet, 0.005, ServerConfig(max_concurrent=most)) as http:
        # From a thread with its own loop: clients do not wait for the server's loop.
        answers, probes = await asyncio.to_thread(asyncio.run, storm(http.base_url))
        again = await http.post(PLAN, json=TASK)
    statuses = Counter(status for status, _, _ in answers)
    assert (set(statuses) <= {200, 429}, statuses[200] >= most) == (True, True), statuses
    for status, headers, body in answers:
        if status == 429:
            assert (headers["retry-after"], json.loads(body)["error"]["code"]) == ("1", "overloaded")
        else:
            assert (b'"error"' in body, headers["x-s3lora-planner"]) == (False, "p")
    assert ([status for status, _, _ in probes], again.status_code) == ([200] * (CALLS // 50), 200)
    assert {body for _, _, body in probes} == {b'{"status":"alive"}'}
    assert leases(fleet) == {("active", "ok"): statuses[200] + 1}
