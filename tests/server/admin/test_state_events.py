"""The stream of changes: all that is, then what changed, and each operation to its end."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import httpx
import pytest
from orders import ask, order, rollback, swap

from s3lora_serve.errors import UnknownPlanner
from s3lora_serve.server.admin import state_events
from s3lora_serve.server.redact import redactor
from s3lora_serve.server.sse import EventStream


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting for more, and a comment soon."""
    monkeypatch.setattr(state_events, "GATHER_SECONDS", 0.0)
    monkeypatch.setattr(state_events, "QUIET_SECONDS", 0.05)


def read(event):
    """(kind, data) of an event, or None for a comment."""
    if event.startswith(b":"):
        return None
    name, data = event.decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.fixture
async def stream(served):
    """The events of a fleet, one after the other."""
    async with aclosing(state_events.state_events(served.service, redactor(lambda: ()))) as events:
        yield events


async def until(stream, true):
    """Every event up to the first that is ``true``."""
    seen = []
    async with asyncio.timeout(30):
        async for event in stream:
            if (found := read(event)) is not None:
                seen.append(found)
                if true(*found):
                    return seen
    raise AssertionError(f"the stream ended: {seen}")


async def test_first_all_that_is_and_then_silence(served, stream):
    """A page needs no other question: engine and planners, and a comment while nothing changes."""
    seen = [read(await anext(stream)) for _ in range(5)]
    assert [(kind, data.get("id")) for kind, data in filter(None, seen)] == [
        ("engine", None),
        ("planner", "p"),
        ("planner", "q"),
        ("planner", "h"),
    ]
    assert seen[-1] is None


async def test_a_swap_is_told_to_its_end(served, stream):
    """The planner with its new revision, and the operation with its sentence, as their routes show them."""
    await until(stream, lambda kind, data: data.get("id") == "h")
    done = await swap(served, "p", "n")
    seen = await until(stream, lambda kind, data: kind == "operation" and data["ended"])
    assert {data["revision"] for kind, data in seen if kind == "planner"} == {done.to_digest}
    assert seen[-1][1]["id"] == done.id
    assert seen[-1][1]["summary"] == f"{done.from_digest[:12]} → {done.to_digest[:12]}"


async def test_an_operation_between_two_looks_is_told_too(served, stream):
    """A rollback takes milliseconds: both orders are there, though neither was seen while it ran."""
    await until(stream, lambda kind, data: data.get("id") == "h")
    await swap(served, "p", "n")
    await rollback(served, "p")
    seen = await until(stream, lambda kind, data: kind == "operation" and data["kind"] == "rollback")
    assert [data["kind"] for kind, data in seen if kind == "operation"] == ["swap", "rollback"]


async def test_requests_are_no_change(served, stream):
    """A busy fleet would else send every planner with every request."""
    await until(stream, lambda kind, data: data.get("id") == "h")
    for _ in range(5):
        await ask(served, "p")
    assert read(await anext(stream)) is None


async def test_a_planner_that_goes_is_told(served, stream):
    """By its name, once; a stream that begins later knows nothing of it."""
    await until(stream, lambda kind, data: data.get("id") == "h")
    rest = {name: want for name, want in served.desired.items() if name != "q"}
    await served.done(await served.control.apply(rest, order()))
    seen = await until(stream, lambda kind, data: kind == "removed")
    assert seen[-1] == ("removed", {"id": "q"})
    with pytest.raises(UnknownPlanner):
        served.service.get("q")


async def test_a_stop_ends_the_stream(served, stream, monkeypatch):
    """Listeners close only when no request runs: a stream that waits for changes must not hold them."""
    monkeypatch.setattr(state_events, "QUIET_SECONDS", 600)
    await until(stream, lambda kind, data: data.get("id") == "h")
    asyncio.get_running_loop().call_later(0.05, served.service.stop.close)
    async with asyncio.timeout(30):
        assert [read(event) async for event in stream] in ([], [None])


async def test_a_stream_after_the_stop_is_an_empty_answer(served):
    """It has no first event to begin with, and still must be a whole HTTP answer."""
    served.service.stop.close()
    answer = EventStream(state_events.state_events(served.service, redactor(lambda: ())))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(answer), base_url="http://x") as http:
        told = await http.get("/")
    assert (told.status_code, told.headers["content-type"], told.content) == (
        200,
        "text/event-stream; charset=utf-8",
        b"",
    )
