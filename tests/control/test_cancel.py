"""An operation that has not flipped can be ended; one that has is not, and says what to do instead."""

from __future__ import annotations

import asyncio

import pytest
from fleet_factory import desired
from orders import ask, held, order, serving, states, swap, until
from silence import silence

from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import Conflict, UnknownOperation
from s3lora_serve.storage.daemon_threads import abandoned

NEW = Wanted(source="new")


@pytest.fixture
async def fleet(fleet_of):
    """Planners p and q serve 0 and 1; 2 lies under "new"."""
    fleet = await fleet_of("p", "q").start()
    fleet.shelf.put("new")
    return fleet


def told(fleet, operation):
    """What the journal says of it, oldest first."""
    return [entry for entry in reversed(fleet.control.history()) if entry.operation == operation.id]


async def test_a_hung_admission_is_cancelled(fleet, gate):
    """It ends at once, its thread is left behind and counted, and what it does later changes nothing."""
    fleet.shelf.before = gate
    op = await fleet.control.swap("p", NEW, order())
    await until(lambda: gate.waiting)
    done = await fleet.control.cancel(op.id, order(actor="bob", reason="hangs"))
    assert (done.step, done.error["code"], done.error["message"]) == (
        Step.CANCELLED,
        "cancelled",
        "cancelled by bob: hangs",
    )
    await until(abandoned)
    assert b"s3lora_abandoned_threads 1.0" in fleet.service.metrics.exposition()
    last = told(fleet, op)[-1]
    assert (last.action, last.actor, last.reason, last.planner) == ("swap.cancelled", "bob", "hangs", "p")
    gate.end()
    assert (fleet.shelf.admitted, serving(fleet, "p"), abandoned()) == ([], "0", 0)
    assert fleet.service.journal.running() == []
    fleet.shelf.before = lambda: None
    assert (await swap(fleet, "p", "new")).step is Step.DONE


async def test_a_load_is_cancelled_and_taken_back(fleet):
    """What was on its way into the engine leaves it again; the next order finds the planner free."""
    before = await fleet.running.loaded()
    gate = fleet.engine.hold_loads("p@2*")
    op = await fleet.control.swap("p", NEW, order())
    await until(lambda: gate.waiting)
    assert (await fleet.control.cancel(op.id, order())).step is Step.CANCELLED
    assert not fleet.service._operations.deciding("p")
    gate.open()
    await until(lambda: states(fleet, "p") == {"0": "serving"})
    while await fleet.running.loaded() != before:  # it has left the fleet, and now the engine
        await asyncio.sleep(0.001)
    assert (await swap(fleet, "p", "new")).step is Step.DONE


async def test_a_dry_run_and_one_in_the_queue_are_cancelled(fleet_of, gate):
    """Also what decides nothing, and what waits for a place, which its progress says."""
    from s3lora_serve.config import SwapConfig

    fleet = await fleet_of("p", "q", swap=SwapConfig(admissions=1)).start()
    fleet.shelf.put("new")
    fleet.shelf.before = gate
    dry = await fleet.control.swap("p", NEW, order(), dry_run=True)
    await until(lambda: gate.waiting)
    waits = await fleet.control.swap("q", NEW, order())
    await until(lambda: "waiting" in fleet.control.operation(waits.id).progress)
    assert fleet.control.operation(waits.id).progress == "waiting for 1 other admissions (swap.admissions)"
    for each in (waits, dry):
        assert (await fleet.control.cancel(each.id, order())).step is Step.CANCELLED
    fleet.shelf.before = lambda: None
    assert (await swap(fleet, "q", "new")).step is Step.DONE


async def test_cancelling_twice_is_cancelling_once(fleet, gate):
    """At the same moment or later: one entry, and the same operation."""
    fleet.shelf.before = gate
    op = await fleet.control.swap("p", NEW, order())
    first, second = await asyncio.gather(*(fleet.control.cancel(op.id, order()) for _ in range(2)))
    assert first == second == await fleet.control.cancel(op.id, order(key="k"))
    assert [entry.action for entry in told(fleet, op)] == ["swap.begun", "swap.cancelled"]


async def test_after_the_flip_it_is_refused(fleet):
    """While the old revision drains, and after the end, each with its reason; an unknown one is unknown."""
    async with held(fleet, "p"):
        op = await fleet.control.swap("p", NEW, order())
        await until(lambda: serving(fleet, "p") == "2")
        with pytest.raises(
            Conflict, match=f"{op.id} .*draining.* cannot be cancelled; roll the planner back"
        ):
            await fleet.control.cancel(op.id, order())
    await fleet.done(op)
    with pytest.raises(Conflict, match=rf"{op.id} has ended \(done\)"):
        await fleet.control.cancel(op.id, order())
    with pytest.raises(UnknownOperation):
        await fleet.control.cancel("op-0", order())
    assert await ask(fleet, "p") == "2"


async def test_while_the_decision_is_written_it_is_refused(fleet, monkeypatch):
    """No cancel comes between journal and memory."""
    with silence() as disk:
        write = fleet.service.journal.write

        def slow(*entries, **options):
            if any(entry.action == "swap.flipped" for entry in entries):
                disk()
            return write(*entries, **options)

        monkeypatch.setattr(fleet.service.journal, "write", slow)
        op = await fleet.control.swap("p", NEW, order())
        await until(lambda: disk.waiting)
        for another in (
            fleet.control.cancel(op.id, order()),
            fleet.control.rollback("p", order(), to="1" * 8),
        ):
            with pytest.raises(Conflict, match="flipping"):
                await another
        disk.end()
        assert (await fleet.done(op)).step is Step.DONE


async def test_an_apply_is_cancelled_as_a_whole(fleet, gate):
    """Every planner of it is as it was, and free."""
    fleet.shelf.before = gate
    wants = {"p": desired("new"), "q": desired("q", description="told")}
    op = await fleet.control.apply(wants, order())
    await until(lambda: gate.waiting)
    assert (await fleet.control.cancel(op.id, order())).step is Step.CANCELLED
    assert (serving(fleet, "p"), fleet.service.get("q").description) == ("0", "a test planner")
    gate.end()
    fleet.shelf.before = lambda: None
    assert (await fleet.done(await fleet.control.apply(wants, order()))).step is Step.DONE


async def test_it_is_cancelled_though_the_disk_is_full(fleet, gate, monkeypatch):
    """It has ended for this server, and the next start ends it in the journal."""
    from s3lora_serve.errors import StateError

    fleet.shelf.before = gate
    op = await fleet.control.swap("p", NEW, order())

    def full(*_, **__):
        raise StateError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(fleet.service.journal, "write", full)
        assert (await fleet.control.cancel(op.id, order())).step is Step.CANCELLED
    assert fleet.control.operation(op.id).step is Step.CANCELLED
    assert [running.id for running in fleet.service.journal.running()] == [op.id]
