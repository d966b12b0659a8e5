"""The rules roll a bad revision back and promote a good one, by the server's own orders."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from orders import ask, canary, rollback, serving, states, swap, until

from s3lora_serve.config import RollbackConfig
from s3lora_serve.control.operation import Kind

RULES = RollbackConfig(requests=40, min_requests=10)


@pytest.fixture
async def fleet(fleet_of):
    """Planner p serves 0 and has answered forty requests; 1 and 2 lie under "new" and "newer"."""
    fleet = await fleet_of("p", rules=RULES).start()
    fleet.shelf.put("new")
    fleet.shelf.put("newer")
    await requests(fleet, 40)
    return fleet


async def requests(fleet, count, outcome="ok", **terms):
    """So many requests that ended so."""
    for i in range(count):
        async with fleet.service.lease("p", request_id=f"r{i}", **terms) as lease:
            lease.outcome = outcome


async def settled(fleet):
    """All that the rules have ordered has ended."""
    service = fleet.service
    await until(lambda: not service._auto_rollback._acting and not service._operations._running)


@pytest.mark.parametrize(("outcome", "rule"), [("error", "error_rate"), ("invalid", "invalid_rate")])
async def test_a_bad_revision_is_rolled_back(fleet, outcome, rule):
    """Once it is worse than the old one beyond chance, that one serves again; the journal names the rule."""
    await swap(fleet, "p", "new")
    await requests(fleet, 12, outcome)
    await until(lambda: serving(fleet, "p") == "0")
    await settled(fleet)
    ordered = fleet.control.operations()[0]
    assert (ordered.kind, ordered.order.actor) == (Kind.ROLLBACK, f"rule:{rule}")
    assert "with the old one" in ordered.order.reason
    assert states(fleet, "p") == {"0": "serving", "1": "standby"}


async def test_it_is_rolled_back_once(fleet):
    """What serves after the rollback is not judged by the failures of what it replaced."""
    await swap(fleet, "p", "new")
    await requests(fleet, 12, "error")
    await until(lambda: serving(fleet, "p") == "0")
    await requests(fleet, 30, "error")
    await settled(fleet)
    assert (serving(fleet, "p"), len(fleet.control.operations())) == ("0", 2)


@pytest.mark.parametrize("outcome", ["ok", "aborted"])
async def test_a_good_revision_stays(fleet, outcome):
    """Neither success nor clients that leave move it; nor do failures once it was judged well."""
    await swap(fleet, "p", "new")
    await requests(fleet, 45, outcome)
    if outcome == "ok":
        await requests(fleet, 20, "error")
    await settled(fleet)
    assert (serving(fleet, "p"), len(fleet.control.operations())) == ("1", 1)


async def test_an_operators_rollback_is_not_judged(fleet):
    """Who goes back knows why: the old revision stays even if it fails."""
    await swap(fleet, "p", "new")
    await rollback(fleet, "p")
    await requests(fleet, 30, "error")
    await settled(fleet)
    assert (serving(fleet, "p"), len(fleet.control.operations())) == ("0", 2)


async def test_a_bad_candidate_is_given_up(fleet):
    """It fails where the active one does not: the active one answers every request again."""
    await canary(fleet, "p", "new", share=1.0)
    await requests(fleet, 12, "error")
    await until(lambda: states(fleet, "p") == {"0": "serving"})
    assert fleet.control.operations()[0].order.actor == "rule:error_rate"


async def test_a_good_candidate_takes_over(fleet):
    """After promote_after requests without a broken rule it serves all requests."""
    await canary(fleet, "p", "new", share=1.0, promote_after=15)
    await requests(fleet, 14)
    await settled(fleet)
    assert serving(fleet, "p") == "0"
    await requests(fleet, 1)
    await until(lambda: serving(fleet, "p") == "1")
    await settled(fleet)
    assert fleet.control.operations()[0].order.actor == "rule:promote_after"


async def test_a_candidate_is_not_judged_by_what_it_did_before(fleet):
    """It served once, well or badly: its trial begins with no request, and decides nothing early."""
    await swap(fleet, "p", "new")
    await requests(fleet, 20)
    await rollback(fleet, "p")
    await canary(fleet, "p", "new", share=1.0, promote_after=30)
    await requests(fleet, 29)
    await settled(fleet)
    assert states(fleet, "p") == {"0": "serving", "1": "canary"}


async def test_a_bad_active_revision_takes_its_candidate_along(fleet):
    """Rolling back while a candidate is on trial gives the candidate up first, then goes back."""
    await swap(fleet, "p", "new")
    await canary(fleet, "p", "newer", share=0.0)
    for _ in range(30):
        await requests(fleet, 1, "error")
        await settled(fleet)
    assert serving(fleet, "p") == "0"
    assert [op.order.actor for op in fleet.control.operations()[:2]] == ["rule:error_rate"] * 2


async def test_a_rule_waits_for_the_operator_who_is_faster(fleet):
    """While an order decides about the planner the rule's is refused; it comes with the next request."""
    await swap(fleet, "p", "new")
    gate = fleet.engine.hold_loads("p@2*")
    await fleet.service._loading.unload("p@000000000000")
    fleet.engine.fail_load("p@2*")
    swapping = asyncio.create_task(swap(fleet, "p", "newer"))
    await until(lambda: fleet.service._operations.deciding("p"))
    await requests(fleet, 12, "error")
    await until(lambda: not fleet.service._auto_rollback._acting)
    assert serving(fleet, "p") == "1"
    gate.open()
    await swapping
    await requests(fleet, 1, "error")
    await until(lambda: serving(fleet, "p") == "0")


async def test_the_engines_death_is_nobodys_fault(fleet):
    """Requests that die with the engine do not roll the revision back that was serving."""
    await swap(fleet, "p", "new")
    fleet.running.hold_requests("p@1*")
    running = [asyncio.create_task(ask(fleet, "p")) for _ in range(20)]
    await until(lambda: sum(fleet.service.get("p").leases.values()) == 20)
    fleet.running.die()
    for each in running:
        with contextlib.suppress(Exception):
            await each
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    await settled(fleet)
    assert (serving(fleet, "p"), len(fleet.control.operations())) == ("1", 1)


async def test_windows_do_not_pile_up(fleet):
    """What is gone is forgotten, late requests of it too."""
    for _ in range(5):
        await swap(fleet, "p", "new")
        await swap(fleet, "p", "newer")
        await swap(fleet, "p", "p")
    await requests(fleet, 1)
    assert len(fleet.service._auto_rollback._windows) <= 3
