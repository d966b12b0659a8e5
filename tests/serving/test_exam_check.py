"""The exam as the last check of a load: what it keeps from serving, and what is asked only once."""

from __future__ import annotations

import asyncio

import pytest
from fleet_factory import make_fleet
from orders import ask, canary, order, rollback, serving, states, swap, until
from scripted_exams import ScriptedExams

from s3lora_serve.config import ExamConfig, SlotsConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import EngineError, WithheldByExam
from s3lora_serve.exam.exam_result import ExamVerdict

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
    exams.settings[""] = ExamConfig(action="refuse", against=trusted.digest[:12])
    await fleet.start()
    assert (exams.examiner.asked, exams.examiner.pinned) == ([f"p@{'0' * 12}"], [f"p@{'1' * 12}"])
    await until(lambda: len(fleet.service._slots.live) == 1)
    assert (await swap(fleet, "p", "trusted")).step is Step.DONE
    assert fleet.service.exams.facts(fleet.service.get("p").active)["words"].startswith("passed unasked")


# It gets in nobody's way


async def test_a_load_may_take_as_long_as_its_exam(fleet_of, exams):
    """slots.load_seconds limits loads, and what comes before; the watchdog sees an engine that works."""
    exams.examiner.pause = 0.05
    fleet = fleet_of(
        "p", exams=exams.setup, slots=SlotsConfig(load_seconds=0.1), watchdog={"watchdog_seconds": 0.1}
    )
    await fleet.start()
    fleet.shelf.put("new")
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert (len(exams.examiner.asked), fleet.service.host.restarts) == (2, 0)


async def test_requests_wait_for_no_exam(fleet, exams):
    """The old revision answers, the other planners too, and none of it counts as a request."""

    def requests():
        lines = fleet.service.metrics.exposition().decode().splitlines()
        return [line for line in lines if line.startswith("s3lora_requests_total")]

    exams.examiner.gate.clear()
    exams.examiner.began.clear()
    operation = await fleet.control.swap("p", Wanted(source="new"), order())
    await exams.examiner.began.wait()
    before = requests()
    await until(lambda: fleet.control.operation(operation.id).progress == "exam: 3 of 3 answers")
    assert requests() == before
    assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("0", "1")
    exams.examiner.gate.set()
    assert (await fleet.done(operation)).step is Step.DONE


async def test_two_swaps_that_exam_at_once_take_turns(fleet, exams):
    """Together they fill no more of the engine than one may; of the same revision only one is asked."""
    exams.examiner.gate.clear()
    one = await fleet.control.swap("p", Wanted(source="new"), order())
    await until(lambda: exams.examiner.at_once)
    two = await fleet.control.swap("q", Wanted(source="new"), order())
    await until(lambda: fleet.control.operation(two.id).progress == "exam: waiting for another one")
    exams.examiner.gate.set()
    assert [(await fleet.done(each)).step for each in (one, two)] == [Step.DONE, Step.DONE]
    assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("2", "2")
    assert ([name[:3] for name in exams.examiner.asked[2:]], exams.examiner.most_at_once) == (["p@2"], 1)


async def _in_an_exam(fleet, exams):
    exams.examiner.gate.clear()
    operation = await fleet.control.swap("p", Wanted(source="new"), order())
    await until(lambda: exams.examiner.at_once)
    return operation


async def _nothing_is_left(fleet, exams):
    await until(lambda: not exams.examiner.at_once and len(fleet.service._slots.live) == 2)
    assert (len(await fleet.running.loaded()), states(fleet, "p")) == (2, {"0": "serving"})
    assert (await ask(fleet, "p"), len(exams.record.results)) == ("0", 2)
    exams.examiner.gate.set()
    assert (await swap(fleet, "p", "new")).step is Step.DONE  # and it can be ordered again
    assert await ask(fleet, "p") == "2"


async def test_a_cancel_ends_what_was_asked(fleet, exams):
    """The old revision serves, nothing was kept, and the slot is free again."""
    operation = await _in_an_exam(fleet, exams)
    await fleet.control.cancel(operation.id, order())
    assert (await fleet.done(operation)).step is Step.CANCELLED
    await _nothing_is_left(fleet, exams)


async def test_the_same_may_be_ordered_before_the_cancelled_one_has_left(fleet, exams):
    """It waits until that is out of the engine, and then gets a slot of its own."""
    operation = await _in_an_exam(fleet, exams)
    exams.examiner.began.clear()
    await fleet.control.cancel(operation.id, order())
    exams.examiner.gate.set()
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert (await ask(fleet, "p"), len(await fleet.running.loaded())) == ("2", 3)


async def test_a_cancel_during_the_load_asks_nothing(fleet, exams):
    """A load cannot be cancelled in the engine; when it is done nobody waits for its exam."""
    gate = fleet.engine.hold_loads("p@2*")
    operation = await fleet.control.swap("p", Wanted(source="new"), order())
    await until(lambda: gate.waiting)
    await fleet.control.cancel(operation.id, order())
    gate.open()
    await until(lambda: len(fleet.service._slots.live) == 2)
    assert [name[:3] for name in exams.examiner.asked] == ["p@0", "q@1"]
    await _nothing_is_left(fleet, exams)


async def test_a_rollback_pre_empts_an_exam(fleet, exams):
    """It waits for nothing that has not flipped."""
    await swap(fleet, "p", "newer")
    operation = await _in_an_exam(fleet, exams)
    done = await rollback(fleet, "p")
    assert (done.step, (await fleet.done(operation)).step) == (Step.DONE, Step.CANCELLED)
    assert await ask(fleet, "p") == "0"
    await until(lambda: not exams.examiner.at_once)


async def test_the_engine_dies_in_the_middle(fleet, exams):
    """The swap fails, nothing is kept, and the old revision serves on the next engine."""
    exams.examiner.questions = 1_000_000
    operation = await _in_an_exam(fleet, exams)
    fleet.engine.die()
    assert (await fleet.done(operation)).error["code"] == "engine_dead"
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    exams.examiner.questions = 1
    exams.examiner.gate.set()
    assert (await ask(fleet, "p"), len(exams.record.results), len(exams.examiner.asked)) == ("0", 2, 3)
    assert (await swap(fleet, "p", "new")).step is Step.DONE


async def test_a_stop_in_the_middle(fleet, exams):
    """The next start undoes the swap, and the old revision serves."""
    operation = await _in_an_exam(fleet, exams)
    restarted = await again(fleet, exams)
    assert restarted.control.operation(operation.id).step is Step.UNDONE
    assert (exams.examiner.at_once, await ask(restarted, "p"), len(exams.record.results)) == (0, "0", 2)
    await restarted.close()


async def test_an_exam_that_cannot_be_taken(fleet, exams):
    """Under refuse the load ends with the error; under observe what serves is shown without an exam."""
    exams.examiner.fails = EngineError("there is no chat template")
    done = await swap(fleet, "p", "new")
    assert (done.step, done.error["code"], await ask(fleet, "p")) == (Step.FAILED, "engine_error", "0")
    exams.settings[""] = ExamConfig(action="observe")
    assert (await swap(fleet, "p", "new")).step is Step.DONE
    assert fleet.service.exams.facts(fleet.service.get("p").active) is None


async def test_an_apply_is_taken_back_as_a_whole(fleet_of, exams):
    """One planner that is refused undoes what the others were changed to."""
    from fleet_factory import desired

    fleet = await fleet_of("p", "q", exams=exams.setup).start()
    for source in ("new", "newer"):
        fleet.shelf.put(source)
    exams.examiner.verdicts["3"] = REFUSED
    wants = {"p": desired("new"), "q": desired("newer")}
    done = await fleet.done(await fleet.control.apply(wants, order()))
    assert (done.step, done.error["code"]) == (Step.FAILED, "exam_refused")
    assert "planner 'q'" in done.error["message"]
    await asyncio.sleep(0)
    assert (serving(fleet, "p"), serving(fleet, "q")) == ("0", "1")
