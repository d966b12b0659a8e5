"""A lease is taken with the lookup, given back on every way out, and says what became of its request."""

from __future__ import annotations

import asyncio

import pytest
from fleet_factory import BASE
from orders import ask, held, order, until
from revision_factory import make_revision

from planners import PlannerInput
from s3lora_serve.control.operation import Wanted
from s3lora_serve.errors import EngineDead, EngineError, EngineRefused, LeaseCut, PlanIncomplete
from s3lora_serve.fleet.deployment import Deployment
from s3lora_serve.fleet.leases import Lease, LeaseBook
from s3lora_serve.fleet.notify import Notifier

REQUEST = PlannerInput(task="Who?", tools=({"name": "Search"},))


@pytest.fixture
def ended(monkeypatch):
    """Every lease that was given back, in order."""
    leases = []
    give_back = LeaseBook.give_back

    def noted(self, lease):
        give_back(self, lease)
        leases.append(lease)

    monkeypatch.setattr(LeaseBook, "give_back", noted)
    return leases


async def test_a_lease_names_what_answers(fleet_of):
    """It holds the deployment and its slot, and the name that the engine's own routes know."""
    fleet = await fleet_of("p", hollow=("h",)).start()
    async with fleet.service.lease("p", session="s", request_id="r1") as lease:
        assert (lease.key, lease.model) == ("p@000000000000", "p@000000000000")
        assert (lease.role, lease.session, lease.request_id) == ("active", "s", "r1")
        assert fleet.service.get("p").leases == {lease.key: 1}
    assert fleet.service.get("p").leases == {lease.key: 0}
    async with fleet.service.lease("h") as lease:
        assert (lease.slot, lease.model) == (None, BASE)


async def test_a_request_stays_where_it_began(fleet_of):
    """Whatever is swapped meanwhile, it ends where it began; the next one has the new revision."""
    fleet = await fleet_of("p").start()
    fleet.shelf.put("new")
    async with held(fleet, "p") as request:
        operation = await fleet.control.swap("p", Wanted(source="new"), order())
        await until(lambda: fleet.service.get("p").revision.digest[0] == "1")
        assert await ask(fleet, "p") == "1"
        assert request.lease.deployment.revision.digest[0] == "0"
        assert request.lease.slot.id in await fleet.running.loaded()
    await fleet.done(operation)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (EngineError("broken"), "error"),
        (ZeroDivisionError("a defect"), "error"),
        (EngineRefused("too long"), "refused"),
        (EngineDead("gone"), "aborted"),
        (LeaseCut("too late"), "aborted"),
        (asyncio.CancelledError(), "aborted"),
    ],
)
async def test_it_is_given_back_with_what_became_of_it(fleet_of, ended, error, outcome):
    """Whatever ends the request, its lease is over; only what the revision is to blame for is an error."""
    fleet = await fleet_of("p").start()
    with pytest.raises(type(error)):
        async with fleet.service.lease("p") as lease:
            raise error
    assert (ended, lease.outcome, lease.seconds >= 0) == ([lease], outcome, True)
    assert set(fleet.service.get("p").leases.values()) == {0}


async def test_an_incomplete_plan_is_invalid(fleet_of, ended):
    """A plan that was cut off counts against the revision, but not as a failure of the engine."""
    fleet = await fleet_of("p", max_model_len=512, plan=lambda request: "Plan: " + "word " * 2000).start()
    with pytest.raises(PlanIncomplete):
        await fleet.service.plan(REQUEST, "p")
    assert [lease.outcome for lease in ended] == ["invalid"]


async def test_what_the_holder_noted_stays(fleet_of, ended):
    """An outcome that the holder set is not overwritten by how it left."""
    fleet = await fleet_of("p").start()

    async def request():
        async with fleet.service.lease("p") as lease:
            lease.outcome = "invalid"
            raise EngineError("broken")

    with pytest.raises(EngineError):
        await request()
    assert ended[0].outcome == "invalid"


def a_lease(request_id="r"):
    """A lease on some deployment."""
    return Lease(Deployment("p", make_revision()), "m", "active", request_id)


async def test_a_cut_ends_the_work_before_the_lease(fleet_of):
    """When a lease is cut, its work has left before the holder learns of it."""
    lease, left = a_lease(), []

    async def work():
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            left.append(True)

    running = asyncio.create_task(lease.run(work()))
    await asyncio.sleep(0.01)
    lease.cut.set()
    with pytest.raises(LeaseCut, match="outlasted"):
        await running
    assert left == [True]


async def test_work_that_ended_in_time_is_not_cut():
    """A result that is there when the cut comes is given; an error is raised as it is."""
    lease = a_lease()
    lease.cut.set()

    async def work():
        return 7

    async def fail():
        raise ZeroDivisionError

    assert await lease.run(work()) == 7
    with pytest.raises(ZeroDivisionError):
        await lease.run(fail())


async def test_draining_waits_then_cuts_by_name():
    """At the deadline those that still run are cut and named; it returns once they are gone."""
    book = LeaseBook(Notifier(), lambda lease: None)
    slow, quick = a_lease("slow"), a_lease("quick")
    book.take(slow)
    book.take(quick)
    draining = asyncio.create_task(book.drained(slow.key, 0.05, lambda: True))
    await asyncio.sleep(0)
    book.give_back(quick)
    book.give_back(quick)
    await asyncio.wait_for(slow.cut.wait(), 5)
    await asyncio.sleep(0.01)
    assert not draining.done()
    book.give_back(slow)
    assert await draining == (("slow",), True)
    assert (book.counts(), quick.cut.is_set()) == ({}, False)


async def test_draining_ends_when_it_serves_again():
    """A deployment that got its role back is not drained any further, and no request is cut."""
    book, still = LeaseBook(changes := Notifier(), lambda lease: None), [True]
    lease = a_lease()
    book.take(lease)
    draining = asyncio.create_task(book.drained(lease.key, 60, lambda: still[0]))
    await asyncio.sleep(0)
    still.clear()
    still.append(False)
    changes.ring()
    assert await asyncio.wait_for(draining, 5) == ((), False)
    assert not lease.cut.is_set()


async def test_a_client_that_hangs_up_while_it_waits_holds_nothing(fleet_of):
    """Waiting for a load and leaving gives back the place in the queue, and no lease was ever taken."""
    fleet = await fleet_of("p", "q", max_loras=1).start()
    fleet.engine.hold_loads("p@*")
    waiting = asyncio.create_task(ask(fleet, "p"))
    await until(lambda: fleet.service._loading.waiting == 1)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert (fleet.service._loading.waiting, fleet.service._leases.counts()) == (0, {})
