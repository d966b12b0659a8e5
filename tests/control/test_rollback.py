"""A rollback: at once while the old revision is loaded, from the store when it is not."""

from __future__ import annotations

import asyncio

import pytest
from orders import ask, canary, held, order, rollback, serving, states, swap, until

from s3lora_serve.config import SwapConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import Conflict, StateError, StoreError


@pytest.fixture
async def fleet(fleet_of):
    """Planner p serves 1, and 0 is kept for a rollback."""
    fleet = await fleet_of("p").start()
    fleet.shelf.put("new")
    await swap(fleet, "p", "new")
    return fleet


async def test_the_kept_revision_answers_before_the_call_returns(fleet):
    """No load, no wait: the flip is done when the order is answered, and the other one is kept instead."""
    loads = len([d for d in fleet.seen if d.state == "loading"])
    operation = await fleet.control.rollback("p", order())
    assert (serving(fleet, "p"), await ask(fleet, "p")) == ("0", "0")
    done = await fleet.done(operation)
    assert (done.step, done.from_digest[0], done.to_digest[0]) == (Step.DONE, "1", "0")
    assert states(fleet, "p") == {"0": "serving", "1": "standby"}
    assert len([d for d in fleet.seen if d.state == "loading"]) == loads


async def test_back_and_forth(fleet):
    """A second rollback goes to what the first one left."""
    for expected in ("0", "1", "0"):
        await rollback(fleet, "p")
        assert (serving(fleet, "p"), await ask(fleet, "p")) == (expected, expected)
    assert fleet.service.get("p").generation == 5


async def test_during_the_drain(fleet_of):
    """While the swap still drains, a rollback takes the old revision back, and no request is cut."""
    fleet = await fleet_of("p", swap=SwapConfig(drain_seconds=60)).start()
    fleet.shelf.put("new")
    async with held(fleet, "p") as request:
        first = await fleet.control.swap("p", Wanted(source="new"), order())
        await until(lambda: states(fleet, "p") == {"0": "draining", "1": "serving"})
        assert (await rollback(fleet, "p")).step is Step.DONE
        assert states(fleet, "p") == {"0": "serving", "1": "standby"}
        done = await asyncio.wait_for(fleet.done(first), 30)  # the drain is over long before its deadline
        assert (done.cut, request.lease.cut.is_set()) == ((), False)
    assert states(fleet, "p") == {"0": "serving", "1": "standby"}


async def test_what_is_not_loaded_any_more_comes_from_the_store(fleet_of):
    """It is read again, loaded and proved like a new one."""
    fleet = await fleet_of("p", swap=SwapConfig(keep_seconds=0.0)).start()
    fleet.shelf.put("new")
    await swap(fleet, "p", "new")
    await until(lambda: states(fleet, "p") == {"1": "serving"})
    done = await rollback(fleet, "p")
    assert (done.step, "load" in done.seconds, await ask(fleet, "p")) == (Step.DONE, True, "0")
    assert fleet.shelf.admitted == ["new"]


@pytest.mark.parametrize("digits", [8, 12, 64])
async def test_to_a_named_revision(fleet, digits):
    """Any revision of the store can be named by 8 digits or more, and need not be the one before."""
    fleet.shelf.put("newer")
    await swap(fleet, "p", "newer")
    done = await rollback(fleet, "p", to="0" * digits)
    assert (done.step, await ask(fleet, "p"), fleet.service.get("p").previous[0]) == (Step.DONE, "0", "2")


async def test_a_revision_that_is_gone_changes_nothing(fleet):
    """What is not in the store cannot be served; what serves goes on."""
    failed = await rollback(fleet, "p", to="f" * 64)
    assert (failed.step, failed.error["code"]) == (Step.FAILED, "store_error")
    assert states(fleet, "p") == {"0": "standby", "1": "serving"}


@pytest.mark.parametrize(
    ("to", "said"), [("1" * 64, "already"), ("1" * 8, "already"), ("0" * 7, "too short")]
)
async def test_nonsense_is_refused_at_once(fleet, to, said):
    """A goal that serves already, or that could be anything, begins no operation."""
    before = len(fleet.control.operations())
    with pytest.raises(Conflict, match=said):
        await fleet.control.rollback("p", order(), to=to)
    assert len(fleet.control.operations()) == before


async def test_nothing_to_go_back_to(fleet_of):
    """A planner that never served anything else says so."""
    fleet = await fleet_of("p").start()
    with pytest.raises(Conflict, match="served no revision before"):
        await fleet.control.rollback("p", order())


async def test_a_full_disk_refuses_and_keeps_both(fleet, monkeypatch):
    """If the decision cannot be written down it is not made: the caller is told, and may try again."""
    write = fleet.service.journal.write

    def failing(*entries, **options):
        if any(entry.action == "rollback.flipped" for entry in entries):
            raise StateError("the disk is full")
        return write(*entries, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fleet.service.journal, "write", failing)
        with pytest.raises(StateError):
            await fleet.control.rollback("p", order())
    assert fleet.control.operations()[0].step is Step.FAILED
    assert states(fleet, "p") == {"0": "standby", "1": "serving"}
    assert (await rollback(fleet, "p")).step is Step.DONE


async def test_the_goal_is_not_unloaded_while_the_decision_is_written(fleet_of, monkeypatch):
    """Its time as a standby ends in that very moment, and it serves all the same."""
    fleet = await fleet_of("p", swap=SwapConfig(keep_seconds=1)).start()
    fleet.shelf.put("new")
    await swap(fleet, "p", "new")
    write = fleet.service._operations.write

    async def slowly(id_, action, **options):
        if action == "rollback.flipped":
            await asyncio.sleep(1.2)
        return await write(id_, action, **options)

    monkeypatch.setattr(fleet.service._operations, "write", slowly)
    slot = next(d.slot for d in fleet.service._fleet.of("p") if d.state == "standby")
    await rollback(fleet, "p")
    assert (serving(fleet, "p"), fleet.service.get("p").slot) == ("0", slot)


async def test_the_engine_dies_while_the_decision_is_written(fleet, monkeypatch):
    """The goal is lost with the engine, and serves once it is back, because that was decided."""
    write, loop = fleet.service.journal.write, asyncio.get_running_loop()

    def deadly(*entries, **options):
        written = write(*entries, **options)
        if any(entry.action == "rollback.flipped" for entry in entries):
            loop.call_soon_threadsafe(fleet.engine.die)
            loop.call_soon_threadsafe(fleet.service._loading.all_lost)
        return written

    monkeypatch.setattr(fleet.service.journal, "write", deadly)
    restart = fleet.starts.hold()
    assert (await rollback(fleet, "p")).step is Step.DONE
    assert states(fleet, "p") == {"0": "evicted"}
    restart.open()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert await ask(fleet, "p") == "0"


async def test_a_caller_that_hangs_up_leaves_no_order_open(fleet):
    """The rollback is done, its operation ends, and the planner takes the next order."""
    call = asyncio.create_task(fleet.control.rollback("p", order()))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait((call,))
    await until(lambda: serving(fleet, "p") == "0" and fleet.control.operations()[0].step.ended)
    assert (await rollback(fleet, "p")).step is Step.DONE


async def test_the_goal_is_not_evicted_while_the_decision_is_written(fleet_of, monkeypatch):
    """A planner that needs a slot in that very moment takes another one, and not the rollback's goal."""
    fleet = await fleet_of("p", "q", max_loras=2).start()
    fleet.shelf.put("new")
    await swap(fleet, "p", "new")
    assert states(fleet, "p") == {"0": "standby", "2": "serving"}
    write, seen = fleet.service._operations.write, []

    async def meanwhile(id_, action, **options):
        if action == "rollback.flipped":
            seen.append(await ask(fleet, "q"))
        return await write(id_, action, **options)

    monkeypatch.setattr(fleet.service._operations, "write", meanwhile)
    slot = next(d.slot for d in fleet.service._fleet.of("p") if d.state == "standby")
    assert (await rollback(fleet, "p")).step is Step.DONE
    assert (seen, fleet.service.get("p").slot) == (["1"], slot)


@pytest.mark.parametrize("gone", ["folder", "adapter_model.safetensors"])
async def test_a_kept_revision_whose_files_went_does_not_serve_again(fleet, gone):
    """It is loaded still, but the next engine could not load it: refused, and what serves serves on."""
    path = fleet.shelf.revisions["p"].path
    away = path.with_name("away")
    what = path if gone == "folder" else path / gone
    what.rename(away)
    with pytest.raises(StoreError, match=r"revision 000000000000 has no .*safetensors in the store any more"):
        await fleet.control.rollback("p", order())
    assert (serving(fleet, "p"), await ask(fleet, "p")) == ("1", "1")
    assert fleet.control.operations()[0].error["code"] == "store_error"
    away.rename(what)
    assert (await rollback(fleet, "p")).step is Step.DONE
    assert await ask(fleet, "p") == "0"


async def test_a_candidate_whose_files_went_is_not_promoted(fleet):
    """The same of a promotion: the trial goes on, and can be given up."""
    fleet.shelf.put("newer")
    await canary(fleet, "p", "newer")
    path = fleet.shelf.revisions["newer"].path
    path.rename(path.with_name("away"))
    with pytest.raises(StoreError, match="revision 222222222222 has no"):
        await fleet.control.promote("p", order())
    assert states(fleet, "p")["2"] == "canary"
    path.with_name("away").rename(path)  # an engine may read a loaded adapter again
    assert (await rollback(fleet, "p")).step is Step.DONE
    assert await ask(fleet, "p") == "1"
