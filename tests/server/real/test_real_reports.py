"""What others have reported of aborts, several answers and crowds that leave, tried on the real engine."""

from __future__ import annotations

import asyncio
import random

import pytest
from orders import until
from real_fleet import ASK, counted, distance, served_by, told

pytestmark = pytest.mark.engine
SOON = 60  # seconds in which what hangs is told from what is slow


served = served_by("p", "q")


async def hang_up(served, body, seconds):
    """Ask, and leave after so long; an answer that came before is fine."""
    asking = asyncio.create_task(served.http.post("/v1/chat/completions", json=body))
    await asyncio.wait((asking,), timeout=seconds)
    asking.cancel()
    await asyncio.wait((asking,))


async def test_aborts_of_several_answers_do_not_hold_a_slot(served):
    """After aborts at any moment, with n > 1, nothing runs on the slot, and a swapped-out revision unloads.

    Reported of SGLang (issue 34205): the use counter drifts and the unload hangs.
    """
    rng = random.Random(3)
    several = {"model": "p", **ASK, "temperature": 1, "max_tokens": 400}
    bodies = [{**several, "n": 1 + turn % 4, "stream": bool(turn % 2)} for turn in range(12)]
    await asyncio.gather(*(hang_up(served, body, rng.uniform(0, 1.5)) for body in bodies))
    await until(lambda: served.held() == (0, 0), SOON)
    old = served.service.get("p").slot
    swapped = await served.admin.post(
        "/admin/planners/p/swap", json={"source": str(served.sources / "n"), "reason": "newer"}
    )
    async with asyncio.timeout(SOON):
        operation = swapped.json()
        while operation["step"] not in ("done", "failed"):
            operation = (await served.admin.get(f"/admin/operations/{operation['id']}?wait=5")).json()
        assert operation["step"] == "done", operation
        standby = next(d for d in served.service.get("p").others if d.slot == old)
        assert await served.service._loading.unload(standby.key)
    assert old.id not in await served.service.engine.loaded()
    assert served.service.engine.running(old) == 0


async def test_a_crowd_of_long_prompts_of_which_half_leave(served):
    """Prompts of many steps, on two slots, and half the clients leave: the rest are answered.

    Reported of SGLang (issue 23141): cancels under pressure lose slots, until nothing is scheduled any more.
    """
    before, _ = await told(served, "q")
    crowd = [
        {
            "messages": [{"role": "user", "content": f"{turn} " + "count " * 700}],  # no prefix in common
            "model": "pq"[turn // 2 % 2],
            "max_tokens": 4,
            "ignore_eos": True,
        }
        for turn in range(10)
    ]
    leaving = [hang_up(served, body, 0.1 * turn) for turn, body in enumerate(crowd[::2])]
    staying = [served.http.post("/v1/chat/completions", json=body) for body in crowd[1::2]]
    async with asyncio.timeout(5 * SOON):
        answers = await asyncio.gather(*staying)
        await asyncio.gather(*leaving)
    assert [answer.status_code for answer in answers] == [200] * len(staying)
    await until(lambda: served.held() == (0, 0), SOON)
    assert counted(served, "error") == 0
    again, _ = await told(served, "q")
    assert distance(before, again) < 1.0


async def test_a_request_that_leaves_before_its_first_token(served):
    """Cancelled while others fill the engine's steps, it is gone from there, and its lease is given back.

    Reported of SGLang (issue 29179): cancelled in the queue, it is scheduled all the same.
    """
    busy = {"model": "q", **ASK, "max_tokens": 60}
    running = [asyncio.create_task(served.http.post("/v1/chat/completions", json=busy)) for _ in range(4)]
    await until(lambda: served.service.engine.running(served.service.get("q").slot) == 4, SOON)
    aborted = counted(served, "aborted")
    for _ in range(6):
        await hang_up(served, {"model": "p", **ASK, "max_tokens": 1500}, 0.02)
    await until(lambda: served.held() == (0, 0), SOON)
    assert [answer.status_code for answer in await asyncio.gather(*running)] == [200] * 4
    assert counted(served, "aborted") - aborted <= 6
