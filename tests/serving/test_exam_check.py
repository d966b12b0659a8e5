"""The exam as the last check of a load: what it keeps from serving, and what is asked only once."""

from __future__ import annotations

import pytest
from fleet_factory import desired
from orders import ask, canary, order, rollback, states, swap, until
from scripted_exams import again, exam_entries

from s3lora_serve.config import ExamConfig
from s3lora_serve.control.operation import Step
from s3lora_serve.errors import WithheldByExam
from s3lora_serve.safety.exam.exam_result import ExamVerdict
from s3lora_serve.safety.exam.utility import Utility, lost

REFUSED, UNDECIDED = ExamVerdict.REFUSED, ExamVerdict.UNDECIDED


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
    exams.examiner.verdicts["3"] = REFUSED
    fleet.shelf.put("newer")
    assert (await swap(fleet, "p", "newer")).error["code"] == "exam_refused"
    assert fleet.service.exams.facts(fleet.service.get("p").active)["verdict"] == "refused"
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert (await ask(fleet, "p"), await fleet.service.ready()) == ("2", True)
    assert [name[0:3] for name in exams.examiner.asked] == ["p@0", "q@1", "p@3", "p@2"]
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
    """The error names setting and way out, and what served serves; observe keeps nothing from serving."""
    exams.settings[""] = ExamConfig(action=action, against="f" * 64)
    done = await swap(fleet, "p", "new")
    assert await ask(fleet, "p") == serving
    if action == "refuse":
        assert done.error["message"] == "exam.against: revision ffffffffffff is not in the store"
        assert "compare with base" in done.error["hint"]
    else:
        assert (done.step, fleet.service.exams.facts(fleet.service.get("p").active)) == (Step.DONE, None)
    assert exams.examiner.at_once == 0
