"""Exams by order: what serves, or what might, is asked; nothing flips, and a verdict is kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from exam_results import kept_exam
from orders import order, serving, states, swap, until
from scripted_exams import ScriptedExams

from s3lora_serve.config import ExamConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.control.operation_summary import summary
from s3lora_serve.errors import ConfigError, Conflict, EngineDead, SourceError, UnknownPlanner
from s3lora_serve.safety.exam.exam_result import ExamVerdict

if TYPE_CHECKING:
    from s3lora_serve.safety.exam.kept_exam import KeptExam


@dataclass
class Exams:
    """Finds what is in ``known``, by revision; an exam is asked in ``hold`` and ends as ``verdict`` says."""

    verdict: str = "passed"
    known: dict[str, KeptExam] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    raises: Exception | None = None
    ended: int = 0

    async def kept(self, planner, revision):
        return self.known.get(revision.digest)

    async def examine(self, planner, deployment, told):
        self.asked.append(deployment.key)
        told(1, 4)
        try:
            await self.hold.wait()
        finally:
            self.ended += 1
        if self.raises is not None:
            raise self.raises
        found = self.known[deployment.revision.digest] = kept_exam(self.verdict)
        return found


@pytest.fixture
async def fleet(fleet_of):
    """Planner p, and n beside it; one slot is free."""
    fleet = fleet_of("p", max_loras=2)
    fleet.shelf.put("n")
    return await fleet.start()


@pytest.fixture
def exams(fleet):
    """The exams of this fleet, which end at once."""
    made = fleet.control._exams = Exams()
    made.hold.set()
    return made


async def examine(fleet, source=None, **terms):
    """The exam of what lies under ``source``, or of what serves; ended."""
    wanted = None if source is None else Wanted(source=source)
    return await fleet.done(await fleet.control.examine("p", wanted, order(**terms)))


def actions(fleet):
    """What the journal says was done, oldest first."""
    return [entry.action for entry in reversed(fleet.control.history())]


@pytest.mark.parametrize("verdict", ["passed", "refused", "undecided"])
async def test_what_serves_is_examined_where_it_is(fleet, exams, verdict):
    """Nothing is loaded or flipped; verdict and counts are in the operation and in the journal."""
    exams.verdict = verdict
    before = states(fleet, "p")
    done = await examine(fleet)
    assert (done.step, done.details["exam"]["verdict"], done.details["kept"]) == (Step.DONE, verdict, False)
    assert done.details["exam"]["attacks"]["asked"] > 0
    assert (states(fleet, "p"), serving(fleet, "p")) == (before, "0")
    assert "exam" in done.seconds
    told = {entry.action: entry.details for entry in fleet.control.history()}
    assert told["exam.answered"]["exam"]["verdict"] == verdict
    assert actions(fleet)[-3:] == ["exam.begun", "exam.answered", "exam.done"]


async def test_a_source_is_loaded_examined_and_taken_out(fleet, exams):
    """The name means what it meant; the engine holds what it held."""
    held = await fleet.running.loaded()
    done = await examine(fleet, "n")
    assert (done.step, done.details["exam"]["verdict"]) == (Step.DONE, "passed")
    assert [key.partition("@")[0] for key in exams.asked] == ["p"]
    assert done.to_digest == fleet.shelf.revisions["n"].digest
    assert (states(fleet, "p"), serving(fleet, "p")) == ({"0": "serving"}, "0")
    assert await fleet.running.loaded() == held


async def test_a_revision_keeps_its_verdict(fleet, exams):
    """Asking again asks nothing and loads nothing, whoever asks; a stale verdict is asked anew."""
    exams.verdict = "refused"
    await examine(fleet, "n")
    again = await examine(fleet, "n")
    assert (again.details["exam"]["verdict"], again.details["kept"], len(exams.asked)) == ("refused", True, 1)
    assert actions(fleet).count("deployment.loaded") == 1
    exams.known[again.to_digest] = kept_exam("refused", stale=True)
    exams.verdict = "passed"
    anew = await examine(fleet, "n")
    assert (anew.details["exam"]["verdict"], anew.details["kept"], len(exams.asked)) == ("passed", False, 2)


async def test_a_key_orders_once(fleet, exams):
    """The same exam under its idempotency key is the same operation."""
    one, two = [await examine(fleet, "n", key="k") for _ in range(2)]
    assert (one.id, len(exams.asked)) == (two.id, 1)


@pytest.mark.parametrize("action", ["refuse", "observe", "mend"])
async def test_a_load_that_is_examined_is_asked_once(fleet_of, action):
    """Where the check of a load asks, and refuses, that is what the order found: not its failure."""
    exams = ScriptedExams(action=action)
    exams.examiner.verdicts["1"] = ExamVerdict.REFUSED
    fleet = fleet_of("p", max_loras=2, exams=exams.setup)
    fleet.shelf.put("n")
    await fleet.start()
    exams.examiner.asked.clear()
    done = await examine(fleet, "n")
    assert (done.step, done.details["exam"]["verdict"]) == (Step.DONE, "refused")
    assert [name.partition("@")[2][0] for name in exams.examiner.asked] == ["1"]
    entries = [e for e in fleet.control.history("p") if e.to_digest == done.to_digest]
    taken = [e for e in entries if e.action == "exam.done"]  # by the order's end, and not by the check, too
    assert [(e.operation, e.details["exam"]["verdict"]) for e in taken] == [(done.id, "refused")]
    assert (serving(fleet, "p"), states(fleet, "p")) == ("0", {"0": "serving"})
    again = await examine(fleet, "n")
    assert (again.details["kept"], len(exams.examiner.asked)) == (True, 1)
    assert (await examine(fleet)).details["exam"]["verdict"] == "passed"
    kept = await fleet.control.kept_exam("p", fleet.shelf.revisions["n"])
    assert kept.result.verdict is ExamVerdict.REFUSED
    assert all(found.ok for found in await fleet.control.verify())


async def test_a_planner_without_an_exam_is_examined_by_order(fleet_of):
    """The settings of a planner whose exam is off hold all the same once it is ordered."""
    exams = ScriptedExams()
    exams.settings["p"] = ExamConfig(action="off")
    fleet = await fleet_of("p", max_loras=2, exams=exams.setup).start()
    assert exams.examiner.asked == []
    done = await examine(fleet)
    assert (done.details["exam"]["verdict"], len(exams.examiner.asked)) == ("passed", 1)


async def test_a_load_that_fails_otherwise_fails_the_exam(fleet, exams):
    """There is no verdict about what cannot be loaded, and none is kept."""
    fleet.engine.fail_load("p@1*", "no room")
    done = await examine(fleet, "n")
    assert (done.step, exams.asked, exams.known) == (Step.FAILED, [], {})
    assert serving(fleet, "p") == "0"


async def test_cancelling_ends_the_questions(fleet, exams):
    """What was asked ends, the slot is free again, and nothing is kept."""
    exams.hold.clear()
    held = await fleet.running.loaded()
    begun = await fleet.control.examine("p", Wanted(source="n"), order())
    await until(lambda: exams.asked)
    assert fleet.control.operation(begun.id).progress == "exam: 1 of 4 answers"
    cancelled = await fleet.control.cancel(begun.id, order())
    await until(lambda: exams.ended and states(fleet, "p") == {"0": "serving"})
    assert (cancelled.step, exams.known) == (Step.CANCELLED, {})
    await until(lambda: not fleet.service._loading.taken > len(held))
    assert await fleet.running.loaded() == held


async def test_a_swap_does_not_wait_for_an_exam(fleet, exams):
    """An exam decides nothing about its planner: orders go on beside it."""
    exams.hold.clear()
    begun = await fleet.control.examine("p", Wanted(source="n"), order())
    await until(lambda: exams.asked)
    assert (await swap(fleet, "p", "n")).step is Step.DONE
    exams.hold.set()
    assert (await fleet.done(begun)).details["exam"]["verdict"] == "passed"
    assert serving(fleet, "p") == "1"


async def test_an_engine_that_dies_keeps_no_verdict(fleet, exams):
    """The operation fails with the engine's reason; the next exam asks anew."""
    exams.raises = EngineDead("the engine stopped")
    assert (await examine(fleet)).step is Step.FAILED
    exams.raises = None
    assert (await examine(fleet)).step is Step.DONE
    assert len(exams.asked) == 2


async def test_what_cannot_be_examined_is_refused(fleet, exams):
    """An unknown planner, another revision than expected, and a source that is not there."""
    with pytest.raises(UnknownPlanner):
        await fleet.control.examine("q", None, order())
    with pytest.raises(Conflict):
        await fleet.control.examine("p", None, order(expected="f" * 8))
    done = await examine(fleet, "nothing")
    assert (done.step, done.error["code"]) == (Step.FAILED, SourceError.code)


async def test_without_exams_the_order_says_so(fleet):
    """Where nothing can be examined, the order is refused and nothing begins."""
    fleet.control._exams = None
    with pytest.raises(ConfigError, match="without exams"):
        await fleet.control.examine("p", None, order())
    assert await fleet.control.kept_exam("p", fleet.service.get("p").revision) is None


async def test_a_revision_of_nothing_passes_unasked(fleet_of):
    """Every module was pruned: the base answers, nothing is asked, and it is not called passed on prompts."""
    exams = ScriptedExams()
    fleet = await fleet_of(hollow=("p",), exams=exams.setup).start()
    done = await examine(fleet)
    assert (done.step, exams.examiner.asked) == (Step.DONE, [])
    assert "passed unasked" in summary(done)


async def test_what_its_exam_withholds_is_answered_by_the_verdict_that_is_kept(fleet_of, caplog):
    """In place of an error; the start that withheld it tried once, and named no mending."""
    exams = ScriptedExams()
    exams.examiner.verdicts["0"] = ExamVerdict.REFUSED
    fleet = await fleet_of("p", exams=exams.setup).start()
    asked = len(exams.examiner.asked)
    assert "stays as it is" not in caplog.text
    done = await examine(fleet)
    assert (done.step, done.details["kept"], done.details["exam"]["verdict"]) == (Step.DONE, True, "refused")
    assert len(exams.examiner.asked) == asked
    assert fleet.service.get("p").alias.withheld
