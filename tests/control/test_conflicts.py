"""Orders that meet: one decides at a time, none runs twice, and none is left half done."""

from __future__ import annotations

import asyncio

import pytest
from fleet_factory import desired
from orders import held, order, serving, swap, until

from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import Conflict, UnknownPlanner

NEW = Wanted(source="new")


@pytest.fixture
async def fleet(fleet_of):
    """Planner p serves revision 0; q serves 1; 2 lies under "new"."""
    fleet = await fleet_of("p", "q").start()
    fleet.shelf.put("new")
    return fleet


async def test_the_same_revision_is_done_at_once(fleet):
    """Nothing is loaded for a revision that serves already."""
    fleet.shelf.revisions["again"] = fleet.shelf.revisions["p"]
    done = await swap(fleet, "p", "again")
    assert (done.step, done.details["same"], fleet.service.get("p").generation) == (Step.DONE, True, 1)


async def test_a_dry_run_changes_nothing_and_shows_both(fleet):
    """It admits, compares and ends; names and engine stay as they were. It waits for no other operation."""
    before = await fleet.running.loaded()
    gate = fleet.engine.hold_loads("p@2*")
    running = await fleet.control.swap("p", NEW, order())
    dry = await swap(fleet, "p", "new", dry_run=True)
    assert (dry.step, dry.details["same"], serving(fleet, "p")) == (Step.DONE, False, "0")
    assert [dry.details["would"][side]["revision"][0] for side in ("serving", "wanted")] == ["0", "2"]
    assert await fleet.running.loaded() == before
    gate.open()
    await fleet.done(running)


@pytest.mark.parametrize(
    ("expected", "good"), [("0" * 64, True), ("0" * 8, True), ("0" * 7, False), ("2" * 64, False)]
)
async def test_an_order_that_expects_another_revision_is_refused(fleet, expected, good):
    """Who orders says what they saw; if that is not what serves, nothing is begun."""
    if good:
        operation = await fleet.control.swap("p", NEW, order(expected=expected))
        assert (await fleet.done(operation)).step is Step.DONE
        return
    with pytest.raises(Conflict, match="not the expected"):
        await fleet.control.swap("p", NEW, order(expected=expected))
    assert fleet.control.operations() == []


async def test_one_order_at_a_time_decides_about_a_planner(fleet):
    """A second order is refused while one decides, names it, and is taken once that one has flipped."""
    gate = fleet.engine.hold_loads("p@2*")
    first = await fleet.control.swap("p", NEW, order())
    await until(lambda: gate.waiting)
    for another in (
        fleet.control.swap("p", NEW, order()),
        fleet.control.apply({"p": desired("new"), "q": desired("q")}, order()),
        fleet.control.canary("p", NEW, order(), share=0.5),
    ):
        with pytest.raises(Conflict, match=f"{first.id} .*deciding about planner 'p'"):
            await another
    gate.open()
    async with held(fleet, "q"):
        await until(lambda: serving(fleet, "p") == "2")
        assert (await swap(fleet, "p", "p")).step is Step.DONE
    await fleet.done(first)


async def test_two_planners_are_swapped_at_once(fleet):
    """Orders about different planners do not wait for each other."""
    one, other = [await fleet.control.swap(name, NEW, order()) for name in ("p", "q")]
    assert {(await fleet.done(each)).step for each in (one, other)} == {Step.DONE}
    assert (serving(fleet, "p"), serving(fleet, "q")) == ("2", "2")


async def test_an_order_given_twice_is_one_operation(fleet):
    """The same key and order is the same operation, also at the same moment, later, and for a dead client."""
    twins = await asyncio.gather(*(fleet.control.swap("p", NEW, order(key="k")) for _ in range(3)))
    assert len({operation.id for operation in twins}) == 1
    done = await fleet.done(twins[0])
    assert await fleet.control.swap("p", NEW, order(key="k", reason="said otherwise")) == done
    with pytest.raises(Conflict, match="used for another order"):
        await fleet.control.swap("p", Wanted(source="q"), order(key="k"))
    with pytest.raises(Conflict, match="used for another order"):
        await fleet.control.rollback("p", order(key="k"))
    assert len(fleet.control.operations()) == 1


@pytest.mark.parametrize("turns", range(8))
async def test_a_client_that_hangs_up_does_not_halve_its_order(fleet, turns):
    """Whenever the caller leaves, the operation ends, and a retry with its key finds it."""
    call = asyncio.create_task(fleet.control.swap("p", NEW, order(key="k")))
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait((call,))
    again = await fleet.control.swap("p", NEW, order(key="k"))
    assert (await fleet.done(again)).step is Step.DONE
    assert ([op.id for op in fleet.control.operations()], serving(fleet, "p")) == ([again.id], "2")
    assert fleet.service.journal.running() == []


async def test_an_unknown_planner_is_no_operation(fleet):
    """No operation starts for a name that no planner has."""
    with pytest.raises(UnknownPlanner):
        await fleet.control.swap("nobody", NEW, order())
    assert fleet.control.operations() == []
