"""Over a real socket, where a complete answer is reported as a client that left: what requests count as."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from live_server import leases, live
from request_kinds import ASK, CHAT, KINDS, SAY, TEXT, held, until

from s3lora_serve.control.operation import Order, Wanted

OPERATOR = Order(actor="test")


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_what_was_answered_counts_as_answered(served, kind):
    """One after the other on a connection and several at once: each ends as ok, none as aborted."""
    path, body = KINDS[kind]
    async with live(served) as http:
        answers = [await http.post(path, json=body) for _ in range(2)]
        answers += await asyncio.gather(*(http.post(path, json=body) for _ in range(3)))
        await until(lambda: sum(leases(served).values()) == 5)
    assert ({a.status_code for a in answers}, leases(served)) == ({200}, {("active", "ok"): 5})
    assert held(served) == (0, 0)


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_who_leaves_midway_stops_the_engine(served, kind):
    """It counts as aborted, and the engine's work ends long before it would have by itself."""
    path, body = KINDS[kind]
    gate = served.engine.hold_requests("p@*")
    async with live(served) as http:
        asking = asyncio.ensure_future(http.post(path, json=body))
        await until(lambda: gate.waiting)
        assert held(served) == (1, 1)
        asking.cancel()
        await until(lambda: leases(served))
    assert (leases(served), held(served)) == ({("active", "aborted"): 1}, (0, 0))
    gate.open()


async def test_who_leaves_midway_in_a_stream_stops_the_engine(served):
    """The first piece has arrived: what was sent so far makes no answer of it."""
    async with live(served, 600) as http:
        async with http.stream("POST", CHAT, json={**ASK, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    break
        await until(lambda: leases(served))
    assert (leases(served), held(served)) == ({("active", "aborted"): 1}, (0, 0))


@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK), (TEXT, SAY)])
async def test_an_answered_request_is_offered_to_the_shadow(served, path, body):
    """What comes after the last byte is done, too."""
    control = served.service.control
    await served.done(await control.canary("p", Wanted(source="n"), OPERATOR, share=1.0, shadow=True))
    async with live(served) as http:
        assert (await http.post(path, json=body)).status_code == 200
        await until(lambda: (stats := served.service.shadows.stats("p")) is not None and stats.runs == 1)
        await until(lambda: ("shadow", "ok") in leases(served))
    assert leases(served) == {("active", "ok"): 1, ("shadow", "ok"): 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_completions_promote_a_good_canary(served, stream):
    """``promote_after`` counts requests of the OpenAI endpoints."""
    control, new = served.service.control, served.shelf.revisions["n"]
    await served.done(await control.canary("p", Wanted(source="n"), OPERATOR, share=1.0, promote_after=3))
    async with live(served) as http:
        for _ in range(3):
            assert served.service.get("p").revision.digest != new.digest
            assert (await http.post(CHAT, json={**ASK, "stream": stream})).status_code == 200
        await until(lambda: served.service.get("p").revision.digest == new.digest)
    assert leases(served) == {("canary", "ok"): 3}


async def test_a_client_that_fails_while_asking_is_no_answer(served):
    """A time limit of the client ends an unstreamed chat on the engine."""
    gate = served.engine.hold_requests("p@*")
    async with live(served) as http:
        asking = asyncio.create_task(http.post(CHAT, json=ASK, timeout=0.5))
        await until(lambda: gate.waiting or asking.done())
        with pytest.raises(httpx.ReadTimeout):
            await asking
        await until(lambda: leases(served))
    gate.open()
    assert (leases(served), held(served)) == ({("active", "aborted"): 1}, (0, 0))
