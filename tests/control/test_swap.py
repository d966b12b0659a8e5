"""A swap: nothing is dropped on the way, and whatever fails leaves what served serving."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from orders import ask, held, order, serving, states, swap, until

from s3lora_serve.config import SlotsConfig, SwapConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.engine.fake.fake_engine import FakeEngine
from s3lora_serve.errors import LeaseCut, StateError

NEW = Wanted(source="new")


@pytest.fixture
async def fleet(fleet_of):
    """Planner p serves revision 0; q serves 1; 2 lies under "new"."""
    fleet = await fleet_of("p", "q").start()
    fleet.shelf.put("new")
    return fleet


async def test_a_swap_goes_through_its_steps_and_tells(fleet):
    """It admits, loads, proves, flips and drains; the old revision stays loaded for a rollback."""
    done = await swap(fleet, "p", "new")
    assert (done.step, done.error, done.cut) == (Step.DONE, None, ())
    assert (done.from_digest[0], done.to_digest[0]) == ("0", "2")
    assert set(done.seconds) == {"admit", "load", "probe", "trial", "commit", "flip", "drain"}
    assert (serving(fleet, "p"), states(fleet, "p")) == ("2", {"0": "standby", "2": "serving"})
    assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("2", "1")
    entries = reversed(fleet.control.history("p"))
    told = [(e.actor, e.action) for e in entries if e.operation == done.id]
    assert told == [
        ("alice", "swap.begun"),
        ("alice", "revision.admitted"),
        ("alice", "deployment.loaded"),
        ("alice", "swap.flipped"),
        ("alice", "deployment.drained"),
        ("alice", "swap.done"),
    ]
    record = fleet.service.journal.planners()["p"]
    assert (record.active[0], record.previous[0], record.generation) == ("2", "0", 2)


async def test_the_call_returns_at_once_and_the_work_goes_on(fleet):
    """An order is answered while it runs; the operation can be followed to its end."""
    gate = fleet.engine.hold_loads("p@2*")
    operation = await fleet.control.swap("p", NEW, order())
    assert not operation.step.ended
    await until(lambda: fleet.control.operation(operation.id).progress == "load")
    assert (serving(fleet, "p"), await ask(fleet, "p")) == ("0", "0")
    gate.open()
    assert (await fleet.done(operation)).step is Step.DONE


def refuse(fleet, monkeypatch):
    fleet.shelf.revisions.pop("new")


def fail_load(fleet, monkeypatch):
    fleet.engine.fail_load("p@2*", "disk on fire")


def half_load(fleet, monkeypatch):
    fleet.engine.fail_load("p@2*", "disk on fire", half=True)


def no_effect(fleet, monkeypatch):
    fleet.engine.no_effect("p@2*")


def mute(fleet, monkeypatch):
    chat = FakeEngine.chat

    async def silent(self, messages, slot, sampling):
        if slot is not None and slot.name.startswith("p@2"):
            sampling = replace(sampling, stop=("This",))  # its first word
        return await chat(self, messages, slot, sampling)

    monkeypatch.setattr(FakeEngine, "chat", silent)


def full_disk(fleet, monkeypatch, *actions):
    """Nothing can be written about these actions."""
    write = fleet.service.journal.write

    def failing(*entries, **options):
        if any(entry.action in (actions or ("swap.flipped",)) for entry in entries):
            raise StateError("the disk is full")
        return write(*entries, **options)

    monkeypatch.setattr(fleet.service.journal, "write", failing)


def full_before(fleet, monkeypatch):
    full_disk(fleet, monkeypatch, "deployment.loaded")


def defect(fleet, monkeypatch):
    async def broken(engine, slot):
        raise ZeroDivisionError("surprise")

    monkeypatch.setattr("s3lora_serve.serving.checks.effect.prove_effect", broken)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (refuse, "source_unavailable"),
        (fail_load, "slot_load_failed"),
        (half_load, "slot_load_failed"),
        (no_effect, "no_effect"),
        (mute, "trial_failed"),
        (full_disk, "state_error"),
        (full_before, "state_error"),
        (defect, "internal_error"),
    ],
)
async def test_whatever_fails_leaves_what_served_serving(fleet, monkeypatch, fault, code):
    """The operation says what failed; names, engine and journal are as before; the next may go well."""
    before, record = await fleet.running.loaded(), fleet.service.journal.planners()["p"]
    new = fleet.shelf.revisions["new"]
    with monkeypatch.context() as patch:
        fault(fleet, patch)
        failed = await swap(fleet, "p", "new")
    assert (failed.step, failed.error["code"]) == (Step.FAILED, code)
    assert (serving(fleet, "p"), states(fleet, "p"), await ask(fleet, "p")) == ("0", {"0": "serving"}, "0")
    assert await fleet.running.loaded() == before
    assert fleet.service.journal.planners()["p"] == record
    fleet.engine.mend_loads()
    fleet.engine._slots.idle.clear()
    fleet.shelf.revisions["new"] = new
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert await ask(fleet, "p") == "2"


@pytest.mark.parametrize("call", ["load", "score", "stream"])
async def test_the_engine_dies_in_the_middle(fleet, call):
    """The order has failed, the old revision comes back with the engine, and a second try goes well."""
    fleet.engine.die_during(call, "p@2*")
    failed = await swap(fleet, "p", "new")
    assert (failed.step, failed.error["code"]) == (Step.FAILED, "engine_dead")
    await until(lambda: fleet.service.host.alive and fleet.service.host.restarts == 1)
    assert (states(fleet, "p"), await ask(fleet, "p")) == ({"0": "serving"}, "0")
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert await ask(fleet, "p") == "2"


async def test_the_engine_dies_between_decision_and_flip(fleet, monkeypatch):
    """What was written down is what happens: the new revision serves once the engine is back."""
    write, loop = fleet.service.journal.write, asyncio.get_running_loop()

    def die():
        fleet.engine.die()
        fleet.service._loading.all_lost()  # as the host says once it notices

    def deadly(*entries, **options):
        written = write(*entries, **options)
        if any(entry.action == "swap.flipped" for entry in entries):
            loop.call_soon_threadsafe(die)
        return written

    monkeypatch.setattr(fleet.service.journal, "write", deadly)
    restart = fleet.starts.hold()
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    restart.open()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert (serving(fleet, "p"), await ask(fleet, "p")) == ("2", "2")
    assert states(fleet, "p") == {"2": "serving"}


async def test_no_slot_comes_free(fleet_of):
    """With every slot pinned the swap ends after its wait and says what to raise."""
    fleet = await fleet_of(
        "p", "q", pinned=("p", "q"), max_loras=2, slots=SlotsConfig(wait_seconds=0.05)
    ).start()
    fleet.shelf.put("new")
    failed = await swap(fleet, "p", "new")
    assert (failed.error["code"], await ask(fleet, "p")) == ("slots_busy", "0")
    assert "no slot came free for p@222222222222 within 0.05 seconds" in failed.error["message"]
    assert "raise engine.max_loras" in failed.error["hint"]
    assert (fleet.service._loading.taken, states(fleet, "p")) == (2, {"0": "serving"})


async def test_a_load_that_hangs_holds_up_no_other_planner_and_ends(fleet_of):
    """Requests are answered meanwhile; the load is given up after its limit and another one may be tried."""
    fleet = await fleet_of("p", "q", slots=SlotsConfig(load_seconds=1)).start()
    fleet.shelf.put("new")
    gate = fleet.engine.hold_loads("p@2*")
    operation = await fleet.control.swap("p", NEW, order())
    await until(lambda: gate.waiting)
    assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("0", "1")
    failed = await fleet.done(operation)
    assert "was not loaded and tried within 1 s" in failed.error["message"]
    gate.open()
    assert (await swap(fleet, "p", "new")).step is Step.DONE


# Draining


async def test_the_old_revision_stays_until_its_last_request(fleet):
    """While a request runs on it, it is loaded, and the operation is DRAINING."""
    async with held(fleet, "p"):
        operation = await fleet.control.swap("p", NEW, order())
        await until(lambda: states(fleet, "p") == {"0": "draining", "2": "serving"})
        await asyncio.sleep(0.02)
        assert fleet.control.operation(operation.id).step is Step.DRAINING
        assert await ask(fleet, "p") == "2"
    assert (await fleet.done(operation)).cut == ()
    assert states(fleet, "p") == {"0": "standby", "2": "serving"}


async def test_the_deadline_cuts_and_names_whom(fleet_of):
    """What outlasts the deadline is ended, told so, and named in the operation and the journal."""
    fleet = await fleet_of("p", swap=SwapConfig(drain_seconds=0.05)).start()
    fleet.shelf.put("new")
    with pytest.raises(LeaseCut, match="outlasted"):
        async with held(fleet, "p", request_id="slow one"):
            done = await swap(fleet, "p", "new")
    assert (done.step, done.cut) == (Step.DONE, ("slow one",))
    told = next(e for e in fleet.control.history("p") if e.action == "deployment.drained")
    assert told.details["cut"] == ["slow one"]
    assert states(fleet, "p") == {"0": "standby", "1": "serving"}


async def test_what_is_kept_goes_after_its_time(fleet_of):
    """A standby is unloaded for good after keep_seconds, and the journal says so."""
    fleet = await fleet_of("p", swap=SwapConfig(keep_seconds=0.03)).start()
    fleet.shelf.put("new")
    await swap(fleet, "p", "new")
    await until(lambda: states(fleet, "p") == {"1": "serving"})
    await until(lambda: fleet.control.history("p")[0].action == "deployment.unloaded")
    assert await fleet.running.loaded() == {fleet.service.get("p").slot.id}


async def test_only_the_rollbacks_goal_is_kept(fleet):
    """After two swaps the first revision is neither served nor a goal: its slot is free."""
    fleet.shelf.put("newer")
    await swap(fleet, "p", "new")
    await swap(fleet, "p", "newer")
    assert states(fleet, "p") == {"2": "standby", "3": "serving"}
    assert len(await fleet.running.loaded()) == 3


async def test_a_full_disk_after_the_decision_keeps_no_slot(fleet, monkeypatch):
    """What cannot be written down after the flip is logged; the swap is done, and its end can be seen."""
    full_disk(fleet, monkeypatch, "deployment.drained", "deployment.unloaded", "swap.done")
    done = await swap(fleet, "p", "new")
    assert (done.step, fleet.control.operations()[0].step) == (Step.DONE, Step.DONE)
    assert states(fleet, "p") == {"0": "standby", "2": "serving"}
    assert (await swap(fleet, "p", "new")).details["same"] is True


async def test_a_swap_to_and_from_the_base_model(fleet):
    """A fully pruned revision takes no slot, and is swapped like any other."""
    fleet.shelf.put("hollow", hollow=True)
    await swap(fleet, "p", "hollow")
    assert (serving(fleet, "p"), fleet.service.get("p").slot, await ask(fleet, "p")) == ("3", None, "3")
    await swap(fleet, "p", "new")
    assert states(fleet, "p") == {"3": "standby", "2": "serving"}


async def test_no_slot_id_comes_twice(fleet):
    """Ids rise over swaps and over the engine's deaths."""
    for source in ("new", "p", "new"):
        await swap(fleet, "p", source)
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    ids = [d.slot.id for d in fleet.seen if d.state == "loading"]
    assert ids == list(range(1, len(ids) + 1))
