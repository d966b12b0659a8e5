"""A shadow runs requests again and answers none of them; what it finds is kept, its trouble is its own."""

from __future__ import annotations

import asyncio

import pytest
from orders import canary, held, order, rollback, serving, states, until

from planners import PlannerInput
from s3lora_serve.config import RollbackConfig
from s3lora_serve.control.operation import Kind, Step

REQUEST = PlannerInput(task="Who directed Inception?", tools=({"name": "Search"}, {"name": "LLM"}))


@pytest.fixture
async def fleet(fleet_of):
    """Planner p serves 0 with 1 as its shadow."""
    fleet = await fleet_of("p", rules=RollbackConfig(requests=20, min_requests=5)).start()
    fleet.shelf.put("new")
    await canary(fleet, "p", "new", share=1.0, shadow=True)
    return fleet


def compared(fleet):
    """Whether every run of the shadow has ended."""
    stats = fleet.service.shadows.stats("p")
    return stats is None or stats.offered == stats.runs + stats.dropped + stats.failed


async def plans(fleet, count):
    """The revisions that answered, each plan after the shadow's last run."""
    revisions = []
    for _ in range(count):
        plan = await fleet.service.plan(REQUEST, "p", session="s")
        revisions.append(plan.meta.revision[0])
        await until(lambda: compared(fleet))
    return revisions


async def test_a_shadow_answers_nobody(fleet):
    """Every plan is the active revision's; the candidate ran each again, and both sides were compared."""
    assert (states(fleet, "p"), fleet.control.operations()[0].kind) == (
        {"0": "serving", "1": "shadow"},
        Kind.SHADOW,
    )
    assert set(await plans(fleet, 10)) == {"0"}
    await until(lambda: fleet.service.shadows.stats("p").runs == 10)
    stats = fleet.service.shadows.stats("p")
    assert (stats.offered, stats.failed, stats.plans) == (10, 0, 10)
    assert (stats.same_text < 10, stats.candidate_tokens > 0) == (True, True)


async def test_leases_are_not_given_on_a_shadow(fleet):
    """Whatever its share, no request's lease is on it."""
    for i in range(20):
        async with fleet.service.lease("p", request_id=f"r{i}") as lease:
            assert (lease.role, lease.deployment.revision.digest[0]) == ("active", "0")


async def test_its_trouble_is_its_own(fleet):
    """A shadow that fails costs no plan; by the rules it is given up, and what serves stays."""
    gate = fleet.running.hold_requests("p@1*")
    assert await asyncio.wait_for(fleet.service.plan(REQUEST, "p"), 5)
    await until(lambda: gate.waiting)
    assert await asyncio.wait_for(fleet.service.plan(REQUEST, "p"), 5)  # while the shadow is busy
    assert fleet.service.shadows.stats("p").dropped == 1
    gate.open()


async def test_given_up_its_run_ends_first(fleet):
    """Its slot is unloaded after its last run, as for any lease."""
    gate = fleet.running.hold_requests("p@1*")
    await fleet.service.plan(REQUEST, "p")
    await until(lambda: gate.waiting)
    operation = await fleet.control.rollback("p", order())
    assert states(fleet, "p") == {"0": "serving", "1": "draining"}
    gate.open()
    assert (await fleet.done(operation)).step is Step.DONE
    assert (states(fleet, "p"), fleet.service.shadows.stats("p")) == ({"0": "serving"}, None)
    assert not fleet.service.shadows.wants("p")


async def test_a_shadow_becomes_a_canary_and_back(fleet):
    """The same candidate, loaded once, may answer a share, and be a shadow again."""
    await fleet.done(await fleet.control.canary("p", None, order(), share=1.0, shadow=False))
    assert states(fleet, "p") == {"0": "serving", "1": "canary"}
    assert await plans(fleet, 3) == ["1", "1", "1"]
    await fleet.done(await fleet.control.canary("p", None, order(), share=1.0, shadow=True))
    assert await plans(fleet, 3) == ["0", "0", "0"]


async def test_a_shadow_is_promoted_by_order(fleet):
    """A promoted shadow serves all requests."""
    async with held(fleet, "p"):
        operation = await fleet.control.promote("p", order())
        assert serving(fleet, "p") == "1"
    await fleet.done(operation)
    assert await plans(fleet, 2) == ["1", "1"]
    await rollback(fleet, "p")
    assert await plans(fleet, 2) == ["0", "0"]


async def test_a_new_candidate_begins_with_empty_figures(fleet):
    """The figures are of one candidate, never of two."""
    await plans(fleet, 3)
    await rollback(fleet, "p")
    fleet.shelf.put("newer")
    await canary(fleet, "p", "newer", share=1.0, shadow=True)
    await plans(fleet, 1)
    await until(lambda: fleet.service.shadows.stats("p").runs == 1)
    assert fleet.service.shadows.stats("p").offered == 1
