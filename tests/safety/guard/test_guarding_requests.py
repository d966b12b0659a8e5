"""One request's guard, from its start to its end."""

from __future__ import annotations

import asyncio

import pytest
from scripted_judge import HARM, MURKY, ScriptedJudge, guards_by, judged

from s3lora_serve.errors import GuardUndecided, RefusedByGuard
from s3lora_serve.safety.guard import guards as guards_module
from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part, Passage
from s3lora_serve.safety.guard.guarding import PROMPTS_AT_ONCE

HARMLESS = GuardQuestion("Who?")


@pytest.mark.parametrize("place", range(3))
async def test_any_of_several_prompts_refuses(place):
    """Wherever it stands; what is told of the request is that prompt."""
    questions = [HARMLESS] * 3
    questions[place] = GuardQuestion(f"a {HARM}")
    guarding, error = await judged(guards_by(ScriptedJudge(), "p"), *questions)
    assert (type(error), guarding.question.task) == (RefusedByGuard, f"a {HARM}")


async def test_a_refusal_beats_what_was_not_decided():
    """Whatever comes first: the client of a refused request is not told to say it in other words."""
    _, error = await judged(guards_by(ScriptedJudge(), "p"), GuardQuestion(MURKY), GuardQuestion(HARM))
    assert isinstance(error, RefusedByGuard)


async def test_a_part_that_is_only_observed_refuses_nothing():
    """The ruling is there to be counted, and the answer leaves."""
    asked = GuardQuestion("Who?", (Passage(Part.EVIDENCE, "a page", HARM),))
    guarding, error = await judged(guards_by(ScriptedJudge(), "p", observe_parts=("evidence",)), asked)
    assert (error, [ruling.part for ruling in guarding.rulings]) == (None, [Part.EVIDENCE])


@pytest.mark.parametrize(("fail", "raised"), [("closed", GuardUndecided), ("open", type(None))])
async def test_what_cannot_be_read_is_a_failure_to_decide(fail, raised):
    """``fail`` says what follows; where nothing is served, nobody is asked; else the answer says ``open``."""
    judge = ScriptedJudge()
    guarding, error = await judged(
        guards_by(judge, "p", fail=fail), HARMLESS, GuardQuestion("", unreadable="an image")
    )
    assert (type(error), len(judge.asked)) == (raised, 0 if fail == "closed" else 2)
    assert error is None or "holds an image" in str(error)
    assert guarding.about()["verdict"] == "open"


async def test_what_cannot_be_read_lets_no_text_past():
    """Where ``fail`` is open an image beside a task would be a key to every door: the task is judged."""
    harm = GuardQuestion(f"a {HARM}", unreadable="an image")
    guarding, error = await judged(guards_by(ScriptedJudge(), "p", fail="open"), harm)
    assert (type(error), guarding.about()["verdict"]) == (RefusedByGuard, "refused")
    page = GuardQuestion("Who?", (Passage(Part.EVIDENCE, "a page", HARM),), unreadable="an image")
    guards = guards_by(ScriptedJudge(), "p", fail="open", observe_parts=("evidence",))
    guarding, error = await judged(guards, page)
    assert (error, guarding.about()["verdict"]) == (None, "open")
    (ruling,) = guarding.rulings
    assert (ruling.finding, ruling.part, ruling.why) == ("undecided", None, "no guard can read an image")


async def test_observing_makes_nobody_wait():
    """``passed`` returns at once, the judging goes on after the answer, and is ended with the server."""
    heard = []
    judge = ScriptedJudge()
    guards = guards_by(judge, "p", action="observe")
    guards._told = lambda planner, guarding: heard.append(guarding.rulings[0].finding)
    judge.gate.clear()
    guarding, error = await judged(guards, GuardQuestion(HARM))
    while not judge.judging:
        await asyncio.sleep(0)
    assert (error, guarding.withheld.is_set(), guarding.about(), guarding.tokens, judge.judging) == (
        None, False, {"verdict": "observed", "by": ["base"]}, None, 1,
    )  # fmt: skip
    judge.gate.set()
    while not heard:
        await asyncio.sleep(0)
    assert (heard, guarding.withheld.is_set(), guarding.tokens) == (["refused"], False, 7)
    judge.gate.clear()
    await judged(guards, HARMLESS)
    while not judge.judging:
        await asyncio.sleep(0)
    await guards.close()
    assert (judge.judging, len(heard)) == (0, 1)


async def test_observing_ends_with_a_client_that_leaves_and_not_with_an_answer_that_failed():
    """What it would have refused is counted of every request that was answered, well or not."""
    judge = ScriptedJudge()
    judge.gate.clear()
    guards = guards_by(judge, "p", action="observe")

    async def answered(error):
        async with guards.guarding("p", HARMLESS, "ann", "r1"):
            while not judge.judging:
                await asyncio.sleep(0)
            raise error

    for error, judging in ((asyncio.CancelledError(), 0), (ValueError("no plan"), 1)):
        with pytest.raises(type(error)):
            await answered(error)
        assert judge.judging == judging
    await guards.close()


async def test_few_prompts_of_a_request_are_judged_at_a_time():
    """However many it has, all are, within the time of one verdict; what is not judged by then has failed."""
    judge = ScriptedJudge()
    judge.gate.clear()
    questions = [GuardQuestion(f"Who? {n}") for n in range(5 * PROMPTS_AT_ONCE)]
    task = asyncio.create_task(judged(guards_by(judge, "p"), *questions))
    for _ in range(20):
        await asyncio.sleep(0)
    assert judge.judging == len(judge.asked) == PROMPTS_AT_ONCE
    judge.gate.set()
    guarding, error = await task
    assert (error, len(guarding.rulings), len(judge.asked)) == (None, len(questions), len(questions))
    judge.gate.clear()
    async with asyncio.timeout(5):
        guarding, error = await judged(guards_by(judge, "p", seconds=0.05), *questions)
    assert (type(error), error.again, judge.judging) == (GuardUndecided, True, 0)
    assert {ruling.why for ruling in guarding.rulings} == {"no verdict within 0.05 s"}


async def test_only_so_many_are_judged_after_their_answers(monkeypatch):
    """Of one more request it is told that it was not judged, and that has ended; later ones are judged."""
    monkeypatch.setattr(guards_module, "MOST_JUDGING", 2)
    judge, heard = ScriptedJudge(), []
    guards = guards_by(judge, "p", action="observe")
    guards._told = lambda planner, guarding: heard.extend(guarding.rulings)
    judge.gate.clear()
    for _ in range(3):
        async with guards.guarding("p", GuardQuestion(HARM), "ann", "r1"):
            for _ in range(5):
                await asyncio.sleep(0)
    assert ([(each.finding, "too many" in each.why) for each in heard], judge.judging) == (
        [("failed", True)],
        2,
    )
    judge.gate.set()
    while len(heard) < 3 or guards._judging:
        await asyncio.sleep(0)
    assert [each.finding for each in heard[1:]] == ["refused", "refused"]
    await judged(guards, GuardQuestion(HARM))
    while len(heard) < 4:
        await asyncio.sleep(0)
    assert heard[3].finding == "refused"


async def test_a_record_that_cannot_be_kept_decides_nothing(caplog):
    """What was to be told fails, and the refusal stands all the same."""
    guards = guards_by(ScriptedJudge(), "p")
    guards._told = lambda planner, guarding: 1 / 0
    _, error = await judged(guards, GuardQuestion(HARM))
    assert (type(error), "could not be told" in caplog.text) == (RefusedByGuard, True)
