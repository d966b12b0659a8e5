"""While an exam is under way: nothing waits for it, and whatever ends it leaves nothing behind."""

from __future__ import annotations

import asyncio
import random

from fleet_factory import desired, make_fleet
from orders import ask, order, rollback, serving, states, swap, until
from scripted_exams import ScriptedExams, again
from virtual_time import run_virtually

from s3lora_serve.config import ExamConfig, SlotsConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import EngineError
from s3lora_serve.safety.exam.exam_result import ExamVerdict

REFUSED = ExamVerdict.REFUSED


def test_a_load_may_take_as_long_as_its_exam(tmp_path, monkeypatch):
    """slots.load_seconds limits loads, and what comes before; the watchdog sees an engine that works."""
    exams = ScriptedExams()
    exams.examiner.pause = 7.0
    limits = {"slots": SlotsConfig(load_seconds=5), "watchdog": {"watchdog_seconds": 2}}

    async def scenario():
        fleet = make_fleet(tmp_path, "p", exams=exams.setup, seconds_per_token=0.5, **limits)
        await fleet.start()
        fleet.shelf.put("new")
        assert (await swap(fleet, "p", "new")).step is Step.DONE
        assert fleet.service.get("p").active.seconds["exam"] > 20
        assert (len(exams.examiner.asked), fleet.service.host.restarts) == (2, 0)
        await fleet.close()

    run_virtually(scenario(), monkeypatch, random.Random(1))


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


async def test_an_engine_that_hangs_in_the_middle(fleet_of, exams):
    """The watchdog ends what it ends of any request, and the old revision serves on the next engine."""
    fleet = await fleet_of("p", exams=exams.setup, watchdog={"watchdog_seconds": 0.1}).start()
    fleet.shelf.put("new")
    exams.examiner.questions = 1_000_000
    operation = await fleet.control.swap("p", Wanted(source="new"), order())
    await until(lambda: exams.examiner.at_once)
    fleet.engine.hang()
    assert (await fleet.done(operation)).error["code"] == "engine_dead"
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert (await ask(fleet, "p"), exams.examiner.at_once) == ("0", 0)


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
