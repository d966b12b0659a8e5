"""A request for one revision is answered by that one, or told which one serves."""

from __future__ import annotations

import pytest

from planners import PlannerInput
from s3lora_serve.errors import RevisionMismatch

REQUEST = PlannerInput(task="Who?", tools=({"name": "LLM"},))


async def test_the_active_revision_may_be_named_in_part(fleet_of):
    """A digest, or eight digits of it, of the revision that serves."""
    fleet = await fleet_of("p").start()
    digest = fleet.service.get("p").revision.digest
    for part in (digest, digest[:8]):
        assert (await fleet.service.plan(REQUEST, "p", revision=part)).meta.revision == digest


async def test_another_revision_is_refused_with_the_one_that_serves(fleet_of):
    """The error carries what the caller needs to decide anew."""
    fleet = await fleet_of("p").start()
    with pytest.raises(RevisionMismatch) as other:
        await fleet.service.plan(REQUEST, "p", revision="abcdef12")
    assert (other.value.revision, other.value.generation) == ("0" * 64, 1)
    assert "serves revision 000000000000, not abcdef12" in str(other.value)


async def test_a_candidate_can_be_asked_for(fleet_of):
    """Naming the candidate gets it, whatever its share; naming the active one never does."""
    from orders import canary

    fleet = fleet_of("p")
    new = fleet.shelf.put("new")
    await fleet.start()
    await canary(fleet, "p", "new", share=0.5)
    old = fleet.service.get("p").revision
    for revision, role in ((new, "canary"), (old, "active")):
        for number in range(4):
            plan = await fleet.service.plan(
                REQUEST, "p", revision=revision.digest[:12], request_id=f"r{number}"
            )
            assert (plan.meta.revision, plan.meta.role) == (revision.digest, role)
