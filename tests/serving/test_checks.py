"""The list of checks: each is run in order, on the revision that was loaded, and what it finds is kept."""

from __future__ import annotations

import pytest
from orders import ask, order

from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import TrialFailed
from s3lora_serve.fleet.proof import Proof
from s3lora_serve.service.planner_service import CHECKS


class Third:
    """A check of the test's own."""

    name = "third"
    long = False

    def __init__(self):
        self.asked = []
        self.refuses = set()

    async def __call__(self, engine, slot, revision, tell):
        self.asked.append((slot.name, revision.digest))
        if revision.digest in self.refuses:
            raise TrialFailed(f"slot {slot.name} fails the third check")
        return Proof(facts={"score": 1})


async def test_a_further_check_is_run_and_its_proof_kept(fleet_of):
    """It sees slot and revision, after the others; its time and its facts stand in the deployment."""
    third = Third()
    fleet = await fleet_of("p", checks=(*CHECKS, third)).start()
    active = fleet.service.get("p").active
    assert third.asked == [(active.key, active.revision.digest)]
    assert list(active.proofs) == ["probe", "trial", "third"]
    assert active.proofs["third"].facts == {"score": 1}
    assert list(active.seconds) == ["load", "probe", "trial", "third"]
    assert active.effect == active.proofs["probe"].effect


async def test_what_a_check_refuses_never_answers(fleet_of):
    """The operation fails with the reason, the engine holds nothing of it, the old one still answers."""
    third = Third()
    fleet = await fleet_of("p", checks=(*CHECKS, third)).start()
    third.refuses.add(fleet.shelf.put("new").digest)
    done = await fleet.done(await fleet.control.swap("p", Wanted(source="new"), order()))
    assert (done.step, done.error["code"]) == (Step.FAILED, "trial_failed")
    assert "third check" in done.error["message"]
    assert len(await fleet.engine.loaded()) == 1
    assert await ask(fleet, "p") == "0"


@pytest.mark.parametrize("count", [0, 1])
async def test_with_fewer_checks_it_serves_all_the_same(fleet_of, count):
    """Which checks there are is the caller's choice; none proves nothing."""
    fleet = await fleet_of("p", checks=CHECKS[:count]).start()
    active = fleet.service.get("p").active
    assert len(active.proofs) == count
    assert (active.effect is None) == (count == 0)
    assert await ask(fleet, "p") == "0"
