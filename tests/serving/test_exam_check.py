"""The exam as the last check of a load: what it keeps from serving, and what is asked only once."""

from __future__ import annotations

import threading

import pytest
from fleet_factory import desired, make_fleet
from orders import ask, canary, order, rollback, states, swap, until
from scripted_exams import ScriptedExams

from s3lora_serve.config import ExamConfig
from s3lora_serve.control.operation import Step
from s3lora_serve.errors import ConfigError, WithheldByExam
from s3lora_serve.safety.exam.exam_result import ExamVerdict
from s3lora_serve.safety.exam.utility import Utility, lost

REFUSED, UNDECIDED = ExamVerdict.REFUSED, ExamVerdict.UNDECIDED


def exam_entries(fleet):
    """What the journal says of exams, oldest first."""
    return [e for e in reversed(fleet.control.history(None)) if e.action == "exam.done"]


@pytest.fixture
def exams():
    """Exams that pass every revision, under ``action: refuse``."""
    return ScriptedExams()


@pytest.fixture
async def fleet(fleet_of, exams):
    """Planners p and q serve 0 and 1; 2 and 3 lie under "new" and "newer"."""
    fleet = await fleet_of("p", "q", exams=exams.setup).start()
    fleet.shelf.put("new")
    fleet.shelf.put("newer")
    return fleet


async def again(fleet, exams, *names, **options):
    """Another server over the same state and record, after this one was stopped."""
    await fleet.close()
    root = fleet.service.journal.path.parent
    made = make_fleet(root, *(names or ("p", "q")), shelf=fleet.shelf, exams=exams.setup, **options)
    return await made.start()


# What it keeps from serving


async def test_it_is_the_last_check_and_what_it_found_is_kept(fleet, exams):
    """Each planner was asked at the first start, after the other checks; facts have counts and no text."""
    assert [name[0] for name in exams.examiner.asked] == ["p", "q"]
    active = fleet.service.get("p").active
    assert list(active.proofs) == ["probe", "trial", "exam"]
    facts = fleet.service.exams.facts(active)
    assert (facts["verdict"], facts["words"]) == ("passed", "passed on the public prompts")
    assert (facts["attacks"]["asked"], facts["attacks"]["candidate"], facts["stale"]) == (200, 0.2, False)
    assert not {"letters", "openings"} & facts.keys()


@pytest.mark.parametrize(
    ("verdict", "settings", "code"),
    [
        (REFUSED, {}, "exam_refused"),
        (REFUSED, {"action": "mend"}, "exam_refused"),
        (REFUSED, {"action": "observe"}, None),
        (UNDECIDED, {}, "exam_undecided"),
        (UNDECIDED, {"undecided": "serve"}, None),
        (UNDECIDED, {"action": "observe"}, None),
    ],
)
async def test_what_becomes_of_a_swap(fleet, exams, verdict, settings, code):
    """What is refused, or undecided and held, ends the load before the flip; else it serves, and is shown."""
    exams.settings[""] = ExamConfig(**{"action": "refuse", **settings})
    exams.examiner.verdicts["2"] = verdict
    done = await swap(fleet, "p", "new")
    serves = code is None
    assert done.step is (Step.DONE if serves else Step.FAILED)
    assert (await ask(fleet, "p"), states(fleet, "p")["2" if serves else "0"]) == (
        "2" if serves else "0",
        "serving",
    )
    if serves:
        assert fleet.service.exams.facts(fleet.service.get("p").active)["verdict"] == verdict.value
    else:
        assert (done.error["code"], f"{verdict.value} on the public prompts" in done.error["message"]) == (
            code,
            True,
        )
        assert "exam." in done.error["hint"]  # the way out
        assert len(await fleet.engine.loaded()) == 2
    entry = exam_entries(fleet)[-1]
    assert (entry.planner, entry.to_digest[0], entry.operation) == ("p", "2", None)
    assert (entry.details["exam"]["verdict"], entry.details["operation"]) == (verdict.value, done.id)


async def test_what_is_refused_for_its_plans_is_told_to_prune_less(fleet, exams):
    """More pruning would not give back what it lost; the message says beside what it is worse."""
    exams.settings[""] = settings = ExamConfig(action="refuse", against="0" * 64)
    utility = (Utility("valid", 0.5, reference=0.9),)
    exams.examiner.verdicts["2"] = REFUSED
    exams.examiner.also = {"utility": utility, "why": lost(utility, settings)}
    done = await swap(fleet, "p", "new")
    assert "44 % worse than revision 000000000000's 0.9" in done.error["message"]
    assert "prunes less; exam.max_utility_loss" in done.error["hint"]


async def test_a_canary_has_no_request_before_it_was_asked(fleet, exams):
    """A candidate that is refused is never on trial."""
    exams.examiner.verdicts["2"] = REFUSED
    done = await canary(fleet, "p", "new", share=1.0)
    assert (done.step, done.error["code"], states(fleet, "p")) == (
        Step.FAILED,
        "exam_refused",
        {"0": "serving"},
    )
    exams.examiner.verdicts.clear()
    assert (await canary(fleet, "q", "newer", share=1.0)).step is Step.DONE
    assert states(fleet, "q") == {"1": "serving", "3": "canary"}


async def test_a_refused_planner_is_withheld_at_the_first_start_and_the_others_serve(fleet_of, exams):
    """Its clients are told so, `ready` is not, and an order says what it shall serve."""
    exams.examiner.verdicts["0"] = REFUSED
    fleet = await fleet_of("p", "q", exams=exams.setup).start()
    planner = fleet.service.get("p")
    assert (planner.alias.withheld_by, planner.state, "refused on the public prompts" in planner.reason) == (
        "exam", "failed", True,
    )  # fmt: skip
    assert fleet.service.exams.facts(planner.active)["verdict"] == "refused"
    assert (await ask(fleet, "q"), await fleet.service.ready()) == ("1", False)
    with pytest.raises(WithheldByExam, match="is stopped: revision 000000000000"):
        await ask(fleet, "p")
    assert len(await fleet.engine.loaded()) == 1
    fleet.shelf.put("new")
    assert (await swap(fleet, "p", "p")).error["code"] == "exam_refused"  # asked no second time
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert (await ask(fleet, "p"), await fleet.service.ready()) == ("2", True)
    assert [name[0:3] for name in exams.examiner.asked] == ["p@0", "q@1", "p@2"]
    assert [f.message for f in await fleet.control.verify() if not f.ok] == []


async def test_another_declaration_of_what_is_refused_lets_nothing_serve(fleet_of, exams):
    """An apply that comes to the withheld revision is checked like any other; once that passes it serves."""
    exams.examiner.verdicts["0"] = REFUSED
    fleet = await fleet_of("p", "q", exams=exams.setup).start()
    fleet.shelf.revisions["same"] = fleet.shelf.revisions["p"]
    wants = {"p": desired("same"), "q": desired("q")}
    failed = await fleet.done(await fleet.control.apply(wants, order()))
    assert (failed.step, failed.error["code"]) == (Step.FAILED, "exam_refused")
    assert (fleet.service.get("p").alias.withheld_by, await ask(fleet, "q")) == ("exam", "1")
    assert set(fleet.service.journal.planners()) == {"q"}
    exams.questions = "2"
    exams.examiner.verdicts.clear()
    done = await fleet.done(await fleet.control.apply(wants, order()))
    assert (done.step, await ask(fleet, "p")) == (Step.DONE, "0")


async def test_an_apply_that_is_taken_back_leaves_withheld_what_was(fleet_of, exams):
    """A withheld planner whose new declaration passed is withheld again when another one's is refused."""
    exams.examiner.verdicts |= {"0": REFUSED, "1": REFUSED, "4": REFUSED}
    fleet = await fleet_of("p", "q", "r", "s", exams=exams.setup).start()
    fleet.shelf.put("new")
    assert {n: fleet.service.get(n).alias.withheld_by for n in ("p", "q")} == {"p": "exam", "q": "exam"}
    fleet.shelf.revisions["same"] = fleet.shelf.revisions["p"]
    exams.questions = "2"
    del exams.examiner.verdicts["0"]  # it passes now
    # In the order of the file: p is declared anew, then r is refused.
    wants = {"p": desired("same"), "r": desired("new"), "s": desired("s")}
    failed = await fleet.done(await fleet.control.apply(wants, order()))
    assert (failed.step, failed.error["code"]) == (Step.FAILED, "exam_refused")
    for name in ("p", "q"):
        assert fleet.service.get(name).alias.withheld
        with pytest.raises(WithheldByExam):
            await ask(fleet, name)
    assert (await ask(fleet, "r"), await ask(fleet, "s")) == ("2", "3")


async def test_it_stays_withheld_after_a_restart_and_nothing_is_asked(fleet_of, exams):
    """The record says so; the journal has no row of it that another start would take for proved."""
    exams.examiner.verdicts["0"] = REFUSED
    fleet = await fleet_of("p", "q", exams=exams.setup).start()
    restarted = await again(fleet, exams)
    assert (restarted.service.get("p").alias.withheld_by, await ask(restarted, "q")) == ("exam", "1")
    assert set(restarted.service.journal.planners()) == {"q"}
    assert len(exams.examiner.asked) == 2
    await restarted.close()


async def test_one_that_served_before_exams_were_taken_is_asked_at_the_next_start(fleet_of, exams):
    """Refused, it is withheld, its row stays as it was, and a rollback's goal is not lost."""
    fleet = await fleet_of("p", "q").start()
    fleet.shelf.put("new")
    await swap(fleet, "p", "new")
    exams.examiner.verdicts["2"] = REFUSED
    restarted = await again(fleet, exams)
    assert (restarted.service.get("p").alias.withheld_by, restarted.service.get("p").previous[0]) == (
        "exam",
        "0",
    )
    assert restarted.service.journal.planners()["p"].active[0] == "2"
    assert (await rollback(restarted, "p")).step is Step.DONE
    assert await ask(restarted, "p") == "0"
    await restarted.close()


async def test_a_fully_pruned_revision_passes_unasked(fleet_of, exams):
    """The base model answers for it."""
    fleet = await fleet_of("p", hollow=("h",), exams=exams.setup).start()
    facts = fleet.service.exams.facts(fleet.service.get("h").active)
    assert (facts["verdict"], facts["asked"]) == ("passed", 0)
    assert facts["words"] == "passed unasked: every module was pruned: the base model answers"
    assert [name[0] for name in exams.examiner.asked] == ["p"]


async def test_planners_with_an_exam_of_their_own(fleet_of, exams):
    """One that is off is not asked; the fleet's is that of planners which an apply adds."""
    exams.settings["q"] = ExamConfig(action="off")
    fleet = await fleet_of("p", "q", exams=exams.setup).start()
    assert [name[0] for name in exams.examiner.asked] == ["p"]
    assert "exam" not in fleet.service.get("q").active.proofs | fleet.service.get("q").active.seconds
    assert fleet.service.exams.facts(fleet.service.get("q").active) is None


# What is asked once


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


async def test_against_a_revision_that_an_operator_pinned(fleet_of, exams):
    """It is loaded for the exam, passes unasked itself, and leaves the engine afterwards."""
    fleet = fleet_of("p", exams=exams.setup)
    trusted = fleet.shelf.put("trusted")
    exams.settings[""] = ExamConfig(action="refuse", against=trusted.digest)
    await fleet.start()
    assert (exams.examiner.asked, exams.examiner.pinned) == ([f"p@{'0' * 12}"], [f"p@{'1' * 12}"])
    await until(lambda: len(fleet.service._slots.live) == 1)
    assert (await swap(fleet, "p", "trusted")).step is Step.DONE
    assert fleet.service.exams.facts(fleet.service.get("p").active)["words"].startswith("passed unasked")


@pytest.mark.parametrize(("action", "serving"), [("refuse", "0"), ("observe", "2")])
async def test_a_pinned_revision_that_is_gone(fleet, exams, action, serving):
    """The error names the setting and the way out, and what served serves; observe keeps nothing from serving."""
    exams.settings[""] = ExamConfig(action=action, against="f" * 64)
    done = await swap(fleet, "p", "new")
    assert await ask(fleet, "p") == serving
    if action == "refuse":
        assert done.error["message"] == "exam.against: revision ffffffffffff is not in the store"
        assert "compare with base" in done.error["hint"]
    else:
        assert (done.step, fleet.service.exams.facts(fleet.service.get("p").active)) == (Step.DONE, None)
    assert exams.examiner.at_once == 0
