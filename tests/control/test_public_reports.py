"""What others have reported of their stacks, tried here: swaps and loads in the least handy moments."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from fleet_factory import KEY
from orders import ask, held, order, rollback, serving, states, swap, until

from s3lora_serve.config import SlotsConfig, SwapConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import LeaseCut, SlotLoadError
from s3lora_serve.server.admin.admin_app import create_admin_app

SOON = 30  # seconds in which anything that hangs is told from what is slow


async def test_two_swaps_of_two_planners_at_once_with_one_spare_slot(fleet_of):
    """Both end well, one after the other: neither takes the slot that the other one serves from.

    Reported of vLLM's production stack (issue 708) as two loads into one slot.
    """
    fleet = await fleet_of("p", "q", max_loras=3).start()
    for name in ("new p", "new q"):
        fleet.shelf.put(name)
    wanted = {"p": "new p", "q": "new q"}
    orders = [fleet.control.swap(name, Wanted(source=source), order()) for name, source in wanted.items()]
    begun = await asyncio.gather(*orders)
    async with asyncio.timeout(SOON):
        done = [await fleet.done(each) for each in begun]
    assert [each.step for each in done] == [Step.DONE, Step.DONE]
    assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("2", "3")
    assert len(await fleet.running.loaded()) <= 3
    assert [finding for finding in await fleet.control.verify() if not finding.ok] == []


async def test_a_new_adapter_without_a_spare_slot_under_a_long_stream(fleet_of):
    """The swap waits for the only slot and is refused by name; the stream is not touched, and later it works.

    Reported of TRL (issue 7017) as a load that hangs for as long as a request runs.
    """
    fleet = await fleet_of("p", max_loras=1, slots=SlotsConfig(wait_seconds=0.2)).start()
    fleet.shelf.put("new")
    async with held(fleet, "p") as stream:
        async with asyncio.timeout(SOON):
            refused = await swap(fleet, "p", "new")
        assert (refused.step, refused.error["code"]) == (Step.FAILED, "slots_busy")
        assert not stream.lease.cut.is_set()
        assert await ask(fleet, "p") == "0"
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert await ask(fleet, "p") == "1"


async def test_a_new_adapter_under_a_long_stream_with_a_spare_slot(fleet_of):
    """The new one serves at once; the stream ends on its own revision, or is cut at the drain's deadline."""
    fleet = await fleet_of("p", max_loras=2, swap=SwapConfig(drain_seconds=0.1)).start()
    fleet.shelf.put("new")

    async def swapped_under_a_stream():
        async with held(fleet, "p", request_id="long"):
            operation = await fleet.control.swap("p", Wanted(source="new"), order())
            await until(lambda: serving(fleet, "p") == "1")
            assert await ask(fleet, "p") == "1"
            async with asyncio.timeout(SOON):
                done = await fleet.done(operation)
            assert (done.step, done.cut) == (Step.DONE, ("long",))

    with pytest.raises(LeaseCut):
        await swapped_under_a_stream()
    assert states(fleet, "p") == {"0": "standby", "1": "serving"}


async def test_a_request_that_leaves_while_it_waits_for_its_slot(fleet_of):
    """Cancelled in the queue, it leaves nothing: the planner's slot can be taken, and unloads do not hang.

    Reported of SGLang (issue 29179) as a use counter that is never given back.
    """
    fleet = await fleet_of("p", "q", max_loras=1).start()
    async with held(fleet, "q"):
        waiting = [asyncio.create_task(ask(fleet, "p")) for _ in range(8)]
        await until(lambda: fleet.service._loading.waiting == 8)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert fleet.service._loading.waiting == 0
    gate = fleet.engine.hold_loads("p@*")
    loading = [asyncio.create_task(ask(fleet, "p")) for _ in range(8)]
    await until(lambda: gate.waiting)
    for task in loading:
        task.cancel()
    await asyncio.wait(loading)
    gate.open()
    fleet.shelf.put("new")
    async with asyncio.timeout(SOON):
        assert (await swap(fleet, "q", "new")).step is Step.DONE
        assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("0", "2")
    assert not any(count for planner in fleet.service.planners() for count in planner.leases.values())


async def test_status_while_a_load_fails_five_times(fleet_of):
    """Each failure is told, and every look at the state in between is answered: nobody sees a 500.

    Reported of AIBrix (issue 2624) as a status that panics while a load is retried.
    """
    fleet = await fleet_of("p", "q", max_loras=1).start()
    app = create_admin_app(fleet.service, KEY)
    fleet.engine.fail_load("p@*", "disk on fire")
    statuses = set()
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://test",
        headers={"authorization": f"Bearer {KEY}"},
    ) as http:

        async def look():
            for path in ("/admin/planners", "/admin/planners/p", "/admin/operations", "/admin/verify"):
                statuses.add((await http.get(path)).status_code)

        for _ in range(5):
            failing = asyncio.create_task(ask(fleet, "p"))
            while not failing.done():
                await look()
            with pytest.raises(SlotLoadError, match="disk on fire"):
                await failing
            await look()
            shown = (await http.get("/admin/planners/p")).json()
            assert "disk on fire" in str(shown)
        fleet.engine.mend_loads()
        assert await ask(fleet, "p") == "0"
        await look()
    assert statuses == {200}


async def test_aborts_between_swaps_leave_the_old_slot_free(fleet_of):
    """Requests that are cut short at any moment, swap after swap: each old revision is unloaded in the end.

    Reported of SGLang (issue 34205) as an unload that hangs on a counter that has drifted.
    """
    fleet = await fleet_of("p", max_loras=2, seconds_per_token=0.001).start()
    for number in range(6):
        fleet.shelf.put(f"new {number}")
    for number in range(6):
        asking = [asyncio.create_task(ask(fleet, "p")) for _ in range(10)]
        for turn, task in enumerate(asking):
            await asyncio.sleep(0.0005)
            if turn % 2:
                task.cancel()
        async with asyncio.timeout(SOON):
            assert (await swap(fleet, "p", f"new {number}")).step is Step.DONE
        await asyncio.wait(asking)
    assert (await rollback(fleet, "p")).step is Step.DONE
    assert len(await fleet.running.loaded()) <= 2
    assert not any(fleet.service.get("p").leases.values())
