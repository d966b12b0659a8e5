"""Mending at the start: what is declared serves as it passes, and a restart asks and changes nothing."""

from __future__ import annotations

import pytest
from fleet_factory import desired
from orders import ask, order, rollback, states, swap
from pruning_exams import PASSED, REFUSED, PruningExams, PruningShelf, result
from scripted_exams import MemoryRecord

from s3lora_serve.config import ExamConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.control.orders.mending import MENDED, NOT_MENDED
from s3lora_serve.spectral.prune_policy import PrunePolicy


def passes(*numbers):
    """What prunes as many of its modules as one of these passes."""
    return lambda pruned, half: result(PASSED if pruned in numbers else REFUSED)


@pytest.fixture
def begun(fleet_of, tmp_path):
    """``await begun(says)``: planners p, declared as "bad", and q start on the same state and store."""
    shelf = PruningShelf(tmp_path / "shelf")
    shelf.revisions["bad"] = shelf.admit("p", Wanted("bad", policy=PrunePolicy()), lambda *_: None)

    async def start(says, source="bad", record=None, **settings):
        settings = ExamConfig(**{"action": "mend", **settings})
        exam = PruningExams(shelf, says, settings, record or MemoryRecord())
        fleet = fleet_of("q", shelf=shelf, exams=exam.setup, root=tmp_path / "root")
        fleet.desired["p"] = desired(source)
        fleet.exam = exam
        return await fleet.start()

    return start


def pruned(fleet):
    """How many modules lacks what p serves."""
    return len(fleet.service.get("p").revision.lineage.pruned)


def told(fleet):
    """What the journal says of p but for its exams, oldest first."""
    return [entry for entry in reversed(fleet.control.history("p")) if entry.action != "exam.done"]


def actions(fleet):
    """What it says was done."""
    return [entry.action for entry in told(fleet)]


async def test_the_first_start_mends(begun):
    """The planner serves its rung, the other one is not touched, and the decision stands in the journal."""
    fleet = await begun(passes(2))
    assert (pruned(fleet), await fleet.service.ready()) == (2, True)
    assert await ask(fleet, "p") == fleet.service.get("p").revision.digest[0]
    mended, serves = told(fleet)
    assert (mended.action, mended.actor, serves.action) == (MENDED, "s3lora-serve", "planner.serves")
    assert mended.to_digest == serves.to_digest == fleet.service.get("p").revision.digest
    assert [row["verdict"] for row in mended.details["rungs"]] == ["refused", "refused", "passed"]
    assert len(states(fleet, "p")) == 1
    assert [finding for finding in await fleet.control.verify() if not finding.ok] == []


async def test_a_restart_asks_and_changes_nothing(begun):
    """What is declared is as it was, so what was decided serves: no rung, no question, no flip."""
    first = await begun(passes(2))
    record, kept = first.service.journal.planners()["p"], first.exam.record
    await first.close()
    again = await begun(passes(), record=kept)
    assert (again.exam.asked, again.service.journal.planners()["p"], pruned(again)) == ([], record, 2)
    assert actions(again) == [MENDED, "planner.serves"]
    done = await again.done(await again.control.apply(again.desired, order()))
    assert (done.step, done.details["changes"], again.exam.asked) == (Step.DONE, [], [])


async def test_no_rung_passes_at_the_start(begun):
    """The planner is withheld with the table as its reason, the other one serves, an order can mend it."""
    fleet = await begun(passes())
    planner = fleet.service.get("p")
    assert "not mended: top 0 (0 %): refused" in planner.alias.withheld
    assert await ask(fleet, "q") == fleet.service.get("q").revision.digest[0]
    assert actions(fleet) == [NOT_MENDED]
    facts = fleet.service.exams.facts(planner.active)
    assert (facts["verdict"], facts["attacks"]["risen"]) == ("refused", 30)  # of what is withheld, not a rung
    assert len(await fleet.running.loaded()) == 1
    fleet.shelf.put("good")
    assert (await swap(fleet, "p", "good")).step is Step.DONE
    assert not fleet.service.get("p").alias.withheld


async def test_an_edit_while_nothing_ran_is_mended(begun):
    """What served before is the rollback's goal of the rung that serves now."""
    fleet = await begun(passes(2), source="q")
    before = fleet.service.get("p").revision.digest
    await fleet.close()
    again = await begun(passes(2))
    planner = again.service.get("p")
    assert (pruned(again), planner.previous, planner.generation) == (2, before, 2)
    assert (await rollback(again, "p")).step is Step.DONE
    assert again.service.get("p").revision.digest == before


async def test_with_another_action_nothing_is_mended(begun):
    """A start whose exam refuses withholds its planner."""
    fleet = await begun(passes(2), action="refuse")
    assert "mended" not in fleet.service.get("p").alias.withheld
    assert fleet.service.get("p").alias.withheld_by == "exam"
    assert actions(fleet) == []


async def test_what_served_before_it_was_examined_so_is_mended(begun):
    """A start whose exam mends finds that what served is refused: what serves then is a decision, too."""
    fleet = await begun(passes(2), action="observe")
    assert (pruned(fleet), fleet.service.get("p").generation) == (10, 1)
    kept = fleet.exam.record
    await fleet.close()
    again = await begun(passes(2), record=kept)
    assert (pruned(again), again.service.get("p").generation) == (2, 2)
    assert again.service.journal.planners()["p"].active == again.service.get("p").revision.digest


async def test_what_served_of_another_source_is_not_mended_from_the_declared_one(begun):
    """Rungs are of the weights that were refused; the planner is withheld until an order says what serves."""
    fleet = await begun(passes(2), action="observe")
    assert (await swap(fleet, "p", "bad too")).step is Step.DONE
    kept = fleet.exam.record
    await fleet.close()
    again = await begun(passes(2), record=kept)
    assert "is expected" in again.service.get("p").alias.withheld
    assert not {MENDED, NOT_MENDED} & set(actions(again))


async def test_a_defect_while_one_is_mended_keeps_no_other_from_serving(begun):
    """The planner stays withheld by its exam, nothing of the rung stays loaded, and the others serve."""

    def says(pruned, half):
        if half is not None:
            raise RuntimeError("a defect")
        return result(REFUSED)

    fleet = await begun(says)
    planner = fleet.service.get("p")
    assert (planner.alias.withheld_by, "is refused" in planner.alias.withheld) == ("exam", True)
    assert await ask(fleet, "q") == fleet.service.get("q").revision.digest[0]
    assert len(await fleet.running.loaded()) == 1
