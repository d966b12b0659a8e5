"""More planners than slots: the right one is evicted, never one in use, and each gets a turn."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from orders import ask, canary, held, order, serving, states, swap, until

from s3lora_serve.config import SlotsConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import SlotLoadError, SlotsBusy, UnknownPlanner
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.service.planner_service import CHECKS


def loaded(fleet):
    """Planners whose adapter is in the engine, as the engine itself says."""
    return {slot.name.split("@")[0] for slot in fleet.running._slots.by_name.values()}


async def test_more_planners_than_slots_all_answer(fleet_of):
    """Four planners answer from two slots, each with its own revision; no more than two are ever loaded."""
    fleet = await fleet_of("p", "q", "r", "s", max_loras=2).start()
    assert await fleet.service.ready()
    for _ in range(3):
        for number, name in enumerate(("p", "q", "r", "s")):
            assert await ask(fleet, name) == str(number)
            assert len(await fleet.running.loaded()) <= 2
    assert fleet.service._loading.evictions >= 10


async def test_the_one_that_was_idle_longest_goes(fleet_of):
    """Least recently asked, not least recently loaded."""
    fleet = await fleet_of("p", "q", "r", max_loras=2).start()
    await ask(fleet, "p")
    await ask(fleet, "q")
    await ask(fleet, "p")
    await ask(fleet, "r")
    assert loaded(fleet) == {"p", "r"}
    assert (states(fleet, "q"), fleet.service.get("q").up) == ({"1": "evicted"}, True)


async def test_a_pinned_planner_stays(fleet_of):
    """However long it was idle, its slot is not given away; at the start, too, it keeps it."""
    fleet = await fleet_of("p", "q", "r", "s", pinned=("p",), max_loras=2).start()
    slot = fleet.service.get("p").slot
    for name in ("q", "r", "s", "q"):
        await ask(fleet, name)
    assert (fleet.service.get("p").slot, slot is not None) == (slot, True)


async def test_what_is_kept_for_a_rollback_goes_first(fleet_of):
    """A standby's slot is needed more by a planner that is asked; the rollback then takes a load."""
    fleet = await fleet_of("p", "q", max_loras=2).start()
    fleet.shelf.put("new")
    await ask(fleet, "q")
    await swap(fleet, "p", "new")
    await ask(fleet, "p")
    await ask(fleet, "q")
    assert (states(fleet, "p"), loaded(fleet)) == ({"2": "serving"}, {"p", "q"})


async def test_a_swap_takes_another_ones_slot_before_its_own(fleet_of):
    """The planner that is swapped goes on serving from its slot although it was idle longest."""
    fleet = await fleet_of("p", "q", max_loras=2).start()
    fleet.shelf.put("new")
    await ask(fleet, "p")
    await ask(fleet, "q")
    gate = fleet.engine.hold_loads("p@2*")
    operation = await fleet.control.swap("p", Wanted(source="new"), order())
    await until(lambda: gate.waiting)
    assert (loaded(fleet), await ask(fleet, "p")) == ({"p"}, "0")
    gate.open()
    await fleet.done(operation)


async def test_with_a_single_slot_a_swap_still_works(fleet_of):
    """The one slot changes hands; a request that waits meanwhile is answered by what serves then."""
    fleet = await fleet_of("p", max_loras=1).start()
    fleet.shelf.put("new")
    gate = fleet.engine.hold_loads("p@1*")
    operation = await fleet.control.swap("p", Wanted(source="new"), order())
    await until(lambda: gate.waiting)
    waiting = asyncio.create_task(ask(fleet, "p"))
    await until(lambda: fleet.service._loading.waiting)
    gate.open()
    assert (await waiting, (await fleet.done(operation)).step) == ("1", Step.DONE)


async def test_who_is_asked_is_not_evicted(fleet_of, monkeypatch):
    """With every slot leased a request waits until it is told to come again; the leases hold."""
    monkeypatch.setattr("s3lora_serve.serving.slot_allocator.TURN_SECONDS", 0.01)
    fleet = await fleet_of("p", "q", max_loras=1, slots=SlotsConfig(wait_seconds=0.1)).start()
    async with held(fleet, "p"):
        with pytest.raises(SlotsBusy, match=r"no slot came free within 0\.1 seconds") as busy:
            await ask(fleet, "q")
        assert busy.value.retry_after == 1.0
        assert states(fleet, "p") == {"0": "serving"}
    assert await ask(fleet, "q") == "1"


async def test_a_crowd_is_turned_away_at_once(fleet_of):
    """No more than max_waiting requests wait for slots; the next one is refused without waiting."""
    fleet = await fleet_of("p", "q", max_loras=1, slots=SlotsConfig(max_waiting=2)).start()
    async with held(fleet, "p"):
        waiting = [asyncio.create_task(ask(fleet, "q")) for _ in range(2)]
        await until(lambda: fleet.service._loading.waiting == 2)
        with pytest.raises(SlotsBusy, match="2 requests wait for a slot already"):
            await ask(fleet, "q")
        assert await ask(fleet, "p") == "0"  # which needs none
    assert [await each for each in waiting] == ["1", "1"]


async def test_busy_planners_take_turns(fleet_of, monkeypatch):
    """Two planners under steady load share one slot: both get through, and it is not reloaded each time."""
    monkeypatch.setattr("s3lora_serve.serving.slot_allocator.TURN_SECONDS", 0.1)
    fleet = fleet_of("p", "q", max_loras=1, checks=CHECKS[:1], seconds_per_token=0.001)
    await fleet.start()
    served, stop = {"p": 0, "q": 0}, asyncio.get_running_loop().time() + 1.5

    async def client(name):
        while asyncio.get_running_loop().time() < stop:
            await ask(fleet, name)
            served[name] += 1

    await asyncio.gather(*(client(name) for name in ("p", "q") for _ in range(4)))
    evictions = fleet.service._loading.evictions
    assert min(served.values()) > 20
    assert 2 <= evictions < sum(served.values()) / 10


async def test_a_planner_that_yielded_in_vain_serves_on(fleet_of, monkeypatch):
    """It gave way to a request that left: it is asked again at once, and not only after its next load."""
    monkeypatch.setattr("s3lora_serve.serving.slot_allocator.TURN_SECONDS", 0.01)
    fleet = await fleet_of("p", "q", max_loras=1, slots=SlotsConfig(wait_seconds=5.0)).start()
    await ask(fleet, "p")
    async with held(fleet, "p"):
        waiting = asyncio.create_task(ask(fleet, "q"))
        await until(lambda: fleet.service._loading._allocator.yielding)
        waiting.cancel()
        await asyncio.wait((waiting,))
        assert await asyncio.wait_for(ask(fleet, "p"), 60) == "0"
    assert fleet.service._loading.evictions == 2  # at the start, and for the first request


async def test_a_waiter_that_left_evicts_nobody(fleet_of):
    """A slot that comes free when no request waits any more keeps its adapter."""
    fleet = await fleet_of("p", "q", max_loras=1).start()
    before = fleet.service._loading.evictions
    async with held(fleet, "q"):
        waiting = asyncio.create_task(ask(fleet, "p"))
        await until(lambda: fleet.service._loading.waiting)
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait((waiting,))
    await asyncio.sleep(0.02)
    assert (fleet.service._loading.evictions, loaded(fleet)) == (before, {"q"})
    assert fleet.service._loading.taken == 1


async def test_a_crowd_for_one_planner_is_one_load(fleet_of):
    """Requests that come while it is loaded wait for the same load."""
    fleet = await fleet_of("p", "q", max_loras=1).start()
    before = len([d for d in fleet.seen if d.state == "loading"])
    assert await asyncio.gather(*(ask(fleet, "p") for _ in range(10))) == ["0"] * 10
    assert len([d for d in fleet.seen if d.state == "loading"]) == before + 1


async def test_a_load_goes_on_when_its_first_request_leaves(fleet_of):
    """Who came later is answered although the one for whom the load began hung up."""
    fleet = await fleet_of("p", "q", max_loras=1).start()
    gate = fleet.engine.hold_loads("p@*")
    first, later = [asyncio.create_task(ask(fleet, "p")) for _ in range(2)]
    await until(lambda: gate.waiting)
    first.cancel()
    await asyncio.wait((first,))
    gate.open()
    assert await later == "0"


async def test_a_failed_reload_is_told_and_tried_again(fleet_of):
    """The request learns why; the planner is not ready, and recovers with the next request."""
    fleet = await fleet_of("p", "q", max_loras=1).start()
    fleet.engine.fail_load("p@*", "disk on fire", half=True)
    with pytest.raises(SlotLoadError, match="disk on fire"):
        await ask(fleet, "p")
    assert (states(fleet, "p"), await fleet.service.ready()) == ({"0": "evicted"}, False)
    assert "disk on fire" in fleet.service.get("p").active.reason
    fleet.engine.mend_loads()
    assert (await ask(fleet, "p"), await fleet.service.ready()) == ("0", True)
    assert await ask(fleet, "q") == "1"


async def test_who_waits_while_the_name_changes_gets_the_new_revision(fleet_of):
    """A request that waits for the old revision is answered by the new one as soon as that serves."""
    fleet = await fleet_of("p", "q", max_loras=2, slots=SlotsConfig(wait_seconds=20)).start()
    fleet.shelf.put("new")
    gate = fleet.engine.hold_loads("p@0*")
    await fleet.service._loading._evict(fleet.service.get("p").active)
    waiting = asyncio.create_task(ask(fleet, "p"))
    await until(lambda: fleet.service._loading.waiting)
    alias = fleet.service._fleet.alias("p")
    new = fleet.shelf.revisions["new"]
    fleet.service._fleet.flip(replace(alias, active=slot_name("p", new.digest)), new)
    await until(lambda: gate.waiting)
    gate.open()
    assert await asyncio.wait_for(waiting, 5) == "2"
    await until(lambda: states(fleet, "p") == {"2": "serving"})


async def test_who_waits_while_the_planner_is_removed_is_told(fleet_of):
    """The name is gone: that is what the request learns, and nothing is loaded for it."""
    fleet = await fleet_of("p", "q", max_loras=1).start()
    async with held(fleet, "q"):
        waiting = asyncio.create_task(ask(fleet, "p"))
        await until(lambda: fleet.service._loading.waiting)
        done = await fleet.done(await fleet.control.apply({"q": fleet.desired["q"]}, order()))
        assert done.step is Step.DONE
        with pytest.raises(UnknownPlanner):
            await waiting
    assert fleet.service._fleet.of("p") == ()


async def test_candidate_and_active_keep_their_slots(fleet_of):
    """A planner on trial needs both its revisions: neither is evicted for another planner."""
    fleet = await fleet_of("p", "q", max_loras=2, slots=SlotsConfig(wait_seconds=0.05)).start()
    fleet.shelf.put("new")
    await canary(fleet, "p", "new", share=0.5)
    await ask(fleet, "p")
    with pytest.raises(SlotsBusy):
        await ask(fleet, "q")
    assert (states(fleet, "p"), serving(fleet, "p")) == ({"0": "serving", "2": "canary"}, "0")


async def test_a_slot_that_cannot_be_unloaded_stays_taken(fleet_of, monkeypatch):
    """What may still be in the engine is not loaded over; after a restart the place is free again."""
    fleet = await fleet_of("p", "q", "r", max_loras=2, slots=SlotsConfig(wait_seconds=0.1)).start()
    unload = fleet.engine.unload

    async def refuse(slot):
        raise SlotLoadError("stuck")

    monkeypatch.setattr(fleet.engine, "unload", refuse)
    with pytest.raises(SlotsBusy):
        await ask(fleet, "p")
    monkeypatch.setattr(fleet.engine, "unload", unload)
    assert fleet.service._loading.taken == 2
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert [await ask(fleet, name) for name in ("p", "q", "r")] == ["0", "1", "2"]
