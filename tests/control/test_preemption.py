"""What goes back waits for nothing that has not flipped: it pre-empts that, which says by what."""

from __future__ import annotations

import pytest
from fleet_factory import desired
from orders import canary, order, rollback, serving, states, swap, until
from silence import silence

from s3lora_serve.config import RollbackConfig
from s3lora_serve.control.operation import Kind, Step, Wanted
from s3lora_serve.errors import Conflict, StoreError

NEWER = Wanted(source="newer")


@pytest.fixture
async def fleet(fleet_of):
    """Planner p serves 2, and 0 before; q serves 1; 3 lies under "newer"."""
    fleet = await fleet_of("p", "q", max_loras=8, rules=RollbackConfig(requests=40, min_requests=10)).start()
    fleet.shelf.put("new")
    fleet.shelf.put("newer")
    for i in range(40):
        async with fleet.service.lease("p", request_id=f"r{i}"):
            pass
    await swap(fleet, "p", "new")
    return fleet


async def hang(fleet, gate, begin):
    """An operation whose admission hangs."""
    fleet.shelf.before = gate
    op = await begin
    await until(lambda: gate.waiting)
    return op


async def test_a_rollback_pre_empts_a_hung_swap(fleet, gate):
    """The revision before serves when the order returns; the swap ended and names the rollback, both ways."""
    hung = await hang(fleet, gate, fleet.control.swap("p", NEWER, order()))
    op = await fleet.control.rollback("p", order(actor="bob"))
    assert serving(fleet, "p") == "0"
    ended = fleet.control.operation(hung.id)
    assert (ended.step, ended.error["code"]) == (Step.CANCELLED, "preempted")
    assert ended.error["message"] == f"pre-empted by operation {op.id}, a rollback ordered by bob"
    entry = next(entry for entry in fleet.control.history("p") if entry.operation == hung.id)
    assert (entry.action, entry.actor, entry.details["by"]) == ("swap.cancelled", "bob", op.id)
    assert (await fleet.done(op)).step is Step.DONE


async def test_a_rollback_pre_empts_a_load(fleet):
    """What was on its way into the engine leaves it; the goal may be that same revision."""
    gate = fleet.engine.hold_loads("p@3*")
    hung = await fleet.control.swap("p", NEWER, order())
    await until(lambda: gate.waiting)
    op = await fleet.control.rollback("p", order(), to="3" * 8)
    assert fleet.control.operation(hung.id).step is Step.CANCELLED
    gate.open()
    assert (await fleet.done(op)).step is Step.DONE
    assert (serving(fleet, "p"), states(fleet, "p")["3"]) == ("3", "serving")


async def test_a_rule_pre_empts_a_hung_swap(fleet, gate):
    """The automatic rollback is carried out while an operator's swap hangs."""
    hung = await hang(fleet, gate, fleet.control.swap("p", NEWER, order()))
    for i in range(12):
        async with fleet.service.lease("p", request_id=f"bad{i}") as lease:
            lease.outcome = "error"
    await until(lambda: serving(fleet, "p") == "0")
    await until(lambda: fleet.control.operation(hung.id).step is Step.CANCELLED)
    assert "ordered by rule:error_rate" in fleet.control.operation(hung.id).error["message"]


async def test_a_rule_leaves_an_operators_rollback_alone(fleet):
    """What an operator goes back to is not replaced by what a rule would."""
    with silence() as reading:
        restore = fleet.shelf.restore
        fleet.shelf.restore = lambda digest: (reading(), restore(digest))[1]
        operators = await fleet.control.rollback("p", order(), to="1" * 8)
        await until(lambda: reading.waiting)
        with pytest.raises(Conflict, match=operators.id):
            await fleet.control.rollback("p", order(actor="rule:error_rate"))
        assert (await fleet.control.rollback("p", order())).kind is Kind.ROLLBACK
        assert fleet.control.operation(operators.id).step is Step.CANCELLED


async def test_a_promotion_pre_empts_a_forced_swap(fleet, gate):
    """The candidate serves; the swap that would have given it up is no more."""
    await canary(fleet, "p", "q")
    hung = await hang(fleet, gate, fleet.control.swap("p", NEWER, order(), force=True))
    op = await fleet.control.promote("p", order())
    assert (serving(fleet, "p"), fleet.control.operation(hung.id).step) == ("1", Step.CANCELLED)
    await fleet.done(op)


async def test_an_apply_is_pre_empted_as_a_whole(fleet, gate):
    """It is all or nothing: the other planners of it keep what they serve, too."""
    wants = {"p": desired("newer"), "q": desired("newer")}
    hung = await hang(fleet, gate, fleet.control.apply(wants, order()))
    await rollback(fleet, "p")
    assert fleet.control.operation(hung.id).step is Step.CANCELLED
    gate.end()
    assert (serving(fleet, "p"), serving(fleet, "q")) == ("0", "1")


async def test_what_is_refused_pre_empts_nothing(fleet, gate):
    """An order that cannot be carried out leaves the running one alone."""
    hung = await hang(fleet, gate, fleet.control.swap("q", NEWER, order()))
    for refused in (
        fleet.control.rollback("q", order()),  # it has served nothing before
        fleet.control.rollback("q", order(expected="9" * 8)),
        fleet.control.promote("q", order()),
    ):
        with pytest.raises(Conflict):
            await refused
    assert fleet.control.operation(hung.id).step is Step.ADMITTING


async def test_a_second_swap_is_refused_with_the_way_out(fleet, gate):
    """It names the operation in the way, and the command that ends it; so do a canary and an apply."""
    hung = await hang(fleet, gate, fleet.control.swap("p", NEWER, order()))
    for another in (
        fleet.control.swap("p", NEWER, order()),
        fleet.control.canary("p", NEWER, order(), share=0.5),
        fleet.control.apply({"p": desired("newer"), "q": desired("q")}, order()),
    ):
        with pytest.raises(Conflict, match="cancel it, then order again") as caught:
            await another
        assert (caught.value.operation, caught.value.command) == (hung.id, f"s3lora cancel {hung.id}")


async def test_a_goal_that_the_store_does_not_have(fleet, gate):
    """The rollback fails and says so; what it pre-empted stays cancelled, and what served serves."""
    hung = await hang(fleet, gate, fleet.control.swap("p", NEWER, order()))
    done = await rollback(fleet, "p", to="9" * 64)
    assert (done.step, done.error["code"]) == (Step.FAILED, StoreError.code)
    assert (fleet.control.operation(hung.id).step, serving(fleet, "p")) == (Step.CANCELLED, "2")
