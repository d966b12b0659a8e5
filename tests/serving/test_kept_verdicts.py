"""What is asked of a revision only once, and what makes a kept verdict stale."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from fleet_factory import desired, make_fleet
from orders import ask, order, rollback, swap, until
from scripted_exams import again, exam_entries

from s3lora_serve.config import ExamConfig
from s3lora_serve.control.operation import Step
from s3lora_serve.errors import ConfigError
from s3lora_serve.safety.exam.exam_result import ExamVerdict

REFUSED = ExamVerdict.REFUSED


async def test_a_kept_verdict_is_asked_no_more(fleet, exams):
    """Not after a restart, a rollback from the store, or a reload, and not for another planner."""
    await swap(fleet, "p", "new")
    await swap(fleet, "q", "new")
    assert [name[:3] for name in exams.examiner.asked] == ["p@0", "q@1", "p@2"]
    restarted = await again(fleet, exams, max_loras=1)
    assert (await ask(restarted, "p"), await ask(restarted, "q")) == ("2", "2")
    assert (await rollback(restarted, "p")).step is Step.DONE
    assert (await ask(restarted, "p"), await ask(restarted, "q"), await ask(restarted, "p")) == (
        "0",
        "2",
        "0",
    )
    assert len(exams.examiner.asked) == 3
    assert len(exam_entries(restarted)) == 3  # those that were taken
    await restarted.close()


async def test_another_policy_that_serves_the_same_files_is_no_other_try(fleet, exams):
    """A verdict is about what answers. Else who is refused asks again with another seed, until it passes; and
    a stale verdict of those files is known as one.
    """
    exams.examiner.verdicts |= {"2": REFUSED, "3": ExamVerdict.PASSED}
    assert (await swap(fleet, "p", "new")).error["code"] == "exam_refused"
    new, newer = (fleet.shelf.revisions[name] for name in ("new", "newer"))
    policy = {**new.lineage.policy, "seed": 7}
    lineage = replace(new.lineage, policy=policy, source="elsewhere", created_at=newer.lineage.created_at)
    fleet.shelf.revisions["newer"] = replace(newer, lineage=lineage)
    assert (await swap(fleet, "p", "newer")).error["code"] == "exam_refused"
    assert [name[:3] for name in exams.examiner.asked] == ["p@0", "q@1", "p@2"]
    exams.questions = "2"
    kept = await fleet.control.kept_exam("p", fleet.shelf.revisions["newer"])
    assert (kept.result.verdict, kept.stale, kept.tries) == (REFUSED, True, 0)
    lineage = replace(lineage, config={**lineage.config, "alpha_pattern": {"q_proj": 1}})
    assert await fleet.control.kept_exam("p", replace(newer, lineage=lineage)) is None


async def test_after_the_engines_death_nothing_is_asked(fleet, exams):
    """The same revisions serve again."""
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert (await ask(fleet, "p"), len(exams.examiner.asked)) == ("0", 2)


@pytest.mark.parametrize("change", ["questions", "guard"])
async def test_other_questions_make_it_stale_and_what_serves_goes_on(fleet, exams, change):
    """After a restart with them it is shown as stale, and nothing was asked."""
    setattr(exams, change, "2")
    restarted = await again(fleet, exams)
    facts = restarted.service.exams.facts(restarted.service.get("p").active)
    assert (facts["verdict"], facts["stale"]) == ("passed", True)
    assert facts["words"] == "passed on the public prompts, by an exam that is stale"
    assert (await ask(restarted, "p"), len(exams.examiner.asked)) == ("0", 2)
    await restarted.close()


async def test_at_a_start_only_what_served_goes_on_with_a_stale_verdict(fleet, exams):
    """What planners.yaml declares anew while nothing runs is asked, although another planner's laxer exam or
    an earlier one passed that revision; so is a planner's first revision.
    """
    await swap(fleet, "q", "new")
    exams.questions = "2"
    exams.examiner.verdicts["2"] = REFUSED
    await fleet.close()
    root = fleet.service.journal.path.parent
    restarted = make_fleet(root, "q", shelf=fleet.shelf, exams=exams.setup)
    restarted.desired.update(p=desired("new"), added=desired("new"))
    await restarted.start()
    assert await ask(restarted, "q") == "2"  # it served there
    for name in ("p", "added"):
        assert restarted.service.get(name).alias.withheld_by == "exam"
    assert [name.partition("@")[0] for name in exams.examiner.asked[3:]] == ["p"]
    await restarted.close()


async def test_a_swap_to_what_is_stale_asks_anew(fleet, exams):
    """Only what a name means already goes on with a stale verdict; so does nothing that was refused."""
    exams.examiner.verdicts["2"] = REFUSED
    await swap(fleet, "p", "new")
    exams.questions = "2"
    exams.examiner.verdicts.clear()
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert [name[:3] for name in exams.examiner.asked] == ["p@0", "q@1", "p@2", "p@2"]
    facts = fleet.service.exams.facts(fleet.service.get("p").active)
    assert (facts["stale"], facts["tries"]) == (False, 2)


@pytest.mark.parametrize("change", ["questions", "guard"])
@pytest.mark.parametrize("found", ["passed", "refused"])
async def test_a_rollback_waits_for_no_exam(fleet, exams, change, found):
    """It goes back to what served at once, with the verdict that let it serve; that is shown as stale until
    the exam is taken again, by an order of its own. What serves goes on, whatever that finds.
    """
    await swap(fleet, "p", "new")
    setattr(exams, change, "2")
    restarted = await again(fleet, exams)
    asked = len(exams.examiner.asked)
    exams.examiner.verdicts["0"] = ExamVerdict(found)
    exams.examiner.gate.clear()
    done = await rollback(restarted, "p")
    assert (done.step, await ask(restarted, "p")) == (Step.DONE, "0")
    facts = restarted.service.exams.facts(restarted.service.get("p").active)
    assert (facts["verdict"], facts["stale"]) == ("passed", True)
    await until(lambda: len(exams.examiner.asked) > asked)
    exams.examiner.gate.set()
    begun = next(e for e in restarted.control.history("p") if e.action == "exam.begun")
    assert (begun.actor, done.id in begun.reason) == ("s3lora-serve", True)
    assert (await restarted.done(restarted.control.operation(begun.operation))).step is Step.DONE
    facts = restarted.service.exams.facts(restarted.service.get("p").active)
    assert (facts["verdict"], facts["stale"], await ask(restarted, "p")) == (found, False, "0")
    assert [name[:3] for name in exams.examiner.asked[asked:]] == ["p@0"]
    await restarted.close()


@pytest.mark.parametrize("goal", ["refused", "unknown", "older"])
async def test_what_never_served_is_asked_by_a_rollback_first(fleet, exams, goal):
    """A stale refusal, no verdict at all, and a revision that is not the one before let nothing serve."""
    exams.settings[""] = ExamConfig(action="observe")
    exams.examiner.verdicts["0"] = REFUSED if goal == "refused" else ExamVerdict.PASSED
    if goal == "refused":
        exams.record.results.clear()
        await fleet.done(await fleet.control.examine("p", None, order()))
    await swap(fleet, "p", "new")
    if goal == "older":
        await swap(fleet, "p", "newer")
    exams.settings[""], exams.questions = ExamConfig(action="refuse"), "2"
    exams.examiner.verdicts["0"] = REFUSED
    if goal == "unknown":
        exams.record.results = {
            k: v
            for k, v in exams.record.results.items()
            if not k.startswith(fleet.shelf.revisions["p"].lineage.served)
        }
    restarted = await again(fleet, exams)
    done = await rollback(restarted, "p", **({"to": "0" * 64} if goal == "older" else {}))
    assert (done.step, done.error["code"]) == (Step.FAILED, "exam_refused")
    assert await ask(restarted, "p") == ("3" if goal == "older" else "2")
    await restarted.close()


async def test_a_rollback_without_an_exam_asks_nothing(fleet, exams):
    """Where it is off now, what was kept of it is of no account."""
    await swap(fleet, "p", "new")
    exams.settings[""], exams.questions = ExamConfig(action="off"), "2"
    restarted = await again(fleet, exams)
    assert ((await rollback(restarted, "p")).step, len(exams.examiner.asked)) == (Step.DONE, 3)
    assert "exam.begun" not in {entry.action for entry in restarted.control.history("p")}
    await restarted.close()


async def test_what_an_order_finds_is_shown_in_place_of_a_stale_verdict(fleet, exams):
    """It is asked although it serves, and goes on to serve whatever that finds."""
    exams.questions = "2"
    restarted = await again(fleet, exams)
    exams.examiner.verdicts["0"] = REFUSED
    active = restarted.service.get("p").active
    found = await restarted.service.exams.examining.examine("p", active, lambda done, total: None)
    facts = restarted.service.exams.facts(restarted.service.get("p").active)
    assert (found.result.verdict, facts["verdict"], facts["stale"]) == (REFUSED, "refused", False)
    assert await ask(restarted, "p") == "0"
    await restarted.close()


@pytest.mark.parametrize("change", ["questions", "guard"])
async def test_an_order_makes_every_stale_verdict_a_fresh_one(fleet, exams, change):
    """Also where only the guard is another, so that the questions are the same; then it is kept as fresh."""
    setattr(exams, change, "2")
    restarted = await again(fleet, exams)
    revision = restarted.service.get("p").active.revision
    for kept in (False, True):
        done = await restarted.done(await restarted.control.examine("p", None, order()))
        assert (done.details["kept"], done.details["exam"]["stale"]) == (kept, False)
        assert (await restarted.control.kept_exam("p", revision)).stale is False
    assert not restarted.service.exams.facts(restarted.service.get("p").active)["stale"]
    assert [name[:3] for name in exams.examiner.asked] == ["p@0", "q@1", "p@0"]
    await restarted.close()


async def test_tries_are_those_of_now(fleet, exams):
    """A revision that was examined long ago shows what was tried of its source since."""
    revision = fleet.service.get("p").active.revision
    assert (await fleet.control.kept_exam("p", revision)).tries == 1
    exams.record.counts[revision.lineage.source] += 6
    assert (await fleet.control.kept_exam("p", revision)).tries == 7


async def test_questions_are_read_in_no_event_loop(fleet_of, exams):
    """Own ones may be megabytes, and the first order of a planner whose exam is off reads them."""
    exams.settings[""] = ExamConfig(action="off")
    threads = exams.keyed_in
    fleet = await fleet_of("p", exams=exams.setup).start()
    await fleet.control.kept_exam("p", fleet.service.get("p").active.revision)
    await fleet.done(await fleet.control.examine("p", None, order()))
    assert threads
    assert threading.main_thread().name not in threads


async def test_questions_that_cannot_be_read_where_the_exam_is_off(fleet_of, exams):
    """What is kept is shown all the same, as stale or not at all; an order to examine says what is wrong."""
    fleet = await fleet_of("p", exams=exams.setup).start()
    revision = fleet.service.get("p").active.revision
    exams.settings[""], exams.unreadable = ExamConfig(action="off"), ConfigError("there is no file here")
    assert (await fleet.control.kept_exam("p", revision)).stale
    done = await fleet.done(await fleet.control.examine("p", None, order()))
    assert (done.step, done.error["code"]) == (Step.FAILED, ConfigError.code)
    exams.record.results.clear()
    assert await fleet.control.kept_exam("p", revision) is None


async def test_a_stale_refusal_lets_nothing_serve(fleet_of, exams):
    """What observe let serve is asked anew at a start that refuses, if the questions are others."""
    exams.settings[""] = ExamConfig(action="observe")
    exams.examiner.verdicts["0"] = REFUSED
    fleet = await fleet_of("p", exams=exams.setup).start()
    assert await ask(fleet, "p") == "0"
    exams.settings[""], exams.questions = ExamConfig(action="refuse"), "2"
    restarted = await again(fleet, exams, "p")
    assert (restarted.service.get("p").alias.withheld_by, len(exams.examiner.asked)) == ("exam", 2)
    await restarted.close()
