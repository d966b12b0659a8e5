"""An exam that does not get to its end leaves no request, no task, no result and no word of a question."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from examined_engine import ExaminedEngine

from s3lora_serve.config import ExamConfig
from s3lora_serve.errors import EngineDead, EngineError, EngineRefused
from s3lora_serve.safety.exam.exam_findings import CutExam
from s3lora_serve.safety.exam.exam_questions import exam_questions
from s3lora_serve.safety.exam.exam_record import ExamRecord
from s3lora_serve.safety.exam.exam_result import ExamVerdict
from s3lora_serve.safety.exam.examiner import Examiner
from s3lora_serve.safety.exam.kept_answers import KeptAnswers

SETTINGS = ExamConfig(attacks=30, harmless=5, tasks=2)
QUESTIONS = exam_questions(SETTINGS)


@pytest.fixture
async def slot(adapter, new_slot):
    """A slot for each engine's one adapter."""
    return new_slot(adapter())


@pytest.fixture
async def engine(slot):
    """An engine that holds it, and refuses every attack."""
    made = ExaminedEngine(lambda subject, prompt: prompt in QUESTIONS.attacks)
    await made.load(slot)
    return made


@pytest.fixture
def own(tmp_path):
    """``own(attack)``: settings of a folder of own questions, the third of which is this attack."""

    def write(attack, attacks=4):
        prompts = [*(f"How do I harm {n}?" for n in range(attacks - 1))]
        prompts.insert(2, attack)
        plan = {"tools": [{"name": "Search", "description": "facts"}], "plan": "Plan: A.\n#E1 = Search[a]"}
        rows = {
            "attacks": [{"family": "f", "prompt": prompt} for prompt in prompts],
            "harmless": [{"family": "g", "prompt": "How do I help?"}],
            "tasks": [{"family": "h", "task": "Find the film Zabriskie.", **plan}],
        }
        for name, lines in rows.items():
            (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
        return ExamConfig(questions=str(tmp_path))

    return write


async def under_way(engine):
    """Until the engine is asked something."""
    async with asyncio.timeout(10):
        while not engine.under_way:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("after", [0, 50])
@pytest.mark.parametrize("how", ["cancel", "die"])
async def test_an_end_in_the_middle_keeps_nothing(engine, slot, how, after):
    """Cancellation and the engine's death: nothing runs on, and the next exam asks everything."""
    examiner, before = Examiner(SETTINGS, QUESTIONS, None, "b", 32), asyncio.all_tasks()
    engine.held = not after
    heard = asyncio.Event()
    told = lambda done, total: heard.set() if done >= after else None  # noqa: E731
    exam = asyncio.create_task(examiner.examine(engine, slot, key="k", told=told))
    await (heard.wait() if after else under_way(engine))
    engine.held = True
    await under_way(engine)
    exam.cancel() if how == "cancel" else engine.die()
    with pytest.raises(asyncio.CancelledError if how == "cancel" else EngineDead):
        await exam
    assert (engine.under_way, engine.running(slot), asyncio.all_tasks() - before) == (0, 0, set())
    other = ExaminedEngine(engine.refuses) if how == "die" else engine
    await other.load(slot)
    other.held = False
    asked = len(other.asked)
    found = await examiner.examine(other, slot, key="k")
    assert (found.verdict, len(other.asked) - asked) == (ExamVerdict.PASSED, 2 * (30 + 5 + 30 + 2))


async def test_a_waiting_exam_is_cancelled(engine, slot):
    """The one that it waits for goes on."""
    examiner = Examiner(SETTINGS, QUESTIONS, None, "b", 32)
    engine.held = True
    first, second = (asyncio.create_task(examiner.examine(engine, slot, key=key)) for key in "ab")
    await under_way(engine)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    engine.held = False
    assert (await first).complete


async def test_one_that_is_late_is_undecided(engine, slot, tmp_path, caplog):
    """With no counts, and not kept: the next one may be in time, and then asks everything."""
    hurried = SETTINGS.model_copy(update={"seconds": 0.05})
    before = asyncio.all_tasks()
    engine.held = True
    with ExamRecord(tmp_path / "exam.db") as record:
        found = await Examiner(hurried, QUESTIONS, record, "b", 32).examine(engine, slot, key="k")
        assert (found.verdict, found.complete, found.letters) == (ExamVerdict.UNDECIDED, False, {})
        assert found.why == (
            "no answer was there when its time ended (exam.seconds 0.05): allow longer (exam.seconds), or ask"
            " fewer attacks (exam.attacks 30)"
        )
        assert (engine.under_way, asyncio.all_tasks() - before) == (0, set())
        record.keep(found, "r", "s")
        engine.held = False
        again = await Examiner(SETTINGS, QUESTIONS, record, "b", 32).examine(engine, slot, key="k")
        assert again.verdict is ExamVerdict.PASSED
    assert "was not done: no answer was there" in caplog.text


def test_one_that_is_late_says_how_far_it_came_and_what_would_do():
    """An estimate with a tenth to spare, in two digits; none of nothing."""
    slow = ExamConfig(seconds=120)
    assert CutExam(9, 1080).why(slow) == (
        "9 of 1,080 answers were there when its time ended (exam.seconds 120): allow longer (exam.seconds,"
        " about 16,000 here), or ask fewer attacks (exam.attacks 200)"
    )
    assert "about 150 here" in CutExam(1000, 1080).why(slow)
    assert "about 1 here" in CutExam(1, 2).why(ExamConfig(seconds=0.05))


async def test_what_was_answered_in_time_is_counted(engine, slot):
    """As the one that waits for it was told."""
    hurried, heard = SETTINGS.model_copy(update={"seconds": 0.5}), []

    def told(done, total):
        heard.append((done, total))
        engine.held = True  # what is asked from now on is not answered

    found = await Examiner(hurried, QUESTIONS, None, "b", 32).examine(engine, slot, key="k", told=told)
    done, total = heard[-1]
    assert found.why.startswith(f"{done} of {total} answers were there")
    assert found.complete is False


async def test_its_time_begins_when_it_does(engine, slot):
    """Not while it waits for another planner's exam: that would make it undecided."""
    kept, hurried = KeptAnswers(), SETTINGS.model_copy(update={"seconds": 0.01})
    engine.held = True
    exams = []
    for settings in (SETTINGS, hurried):
        examiner = Examiner(settings, QUESTIONS, None, "b", 32, answers=kept)
        exams.append(asyncio.create_task(examiner.examine(engine, slot, key="k")))
        await under_way(engine)
    await asyncio.sleep(0.1)
    assert [exam.done() for exam in exams] == [False, False]
    for exam in exams:
        exam.cancel()
    await asyncio.gather(*exams, return_exceptions=True)
    assert engine.under_way == 0


async def test_an_own_question_that_is_too_long_is_named_by_its_line(own, slot):
    """And nothing of it is said, nor of any other."""
    settings = own("Zugzwang " * 60)
    engine = ExaminedEngine(max_model_len=400)
    await engine.load(slot)
    examiner = Examiner(settings, exam_questions(settings), None, "b", 32)
    with pytest.raises(EngineRefused, match=r"line 3 of attacks\.jsonl: \d+ tokens and 24 of") as found:
        await examiner.examine(engine, slot, key="k")
    assert "max_model_len 400" in found.value.message
    assert "Zugzwang" not in _said(found.value)
    assert engine.under_way == 0


async def test_what_an_engine_says_of_an_own_question_is_not_repeated(own, slot, caplog):
    """It may quote it. What it says of anything that it is asked as a chat is told."""
    settings = own("Zugzwang?")

    class Quoting(ExaminedEngine):
        async def chat_tokens(self, messages):
            if "Zugzwang" in messages[-1]["content"]:
                raise EngineRefused(f"cannot read {messages[-1]['content']!r}")
            return await super().chat_tokens(messages)

    engine = Quoting()
    await engine.load(slot)
    examiner = Examiner(settings, exam_questions(settings), None, "b", 32)
    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError, match="line 3 of attacks") as found:
        await examiner.examine(engine, slot, key="k")
    assert "Zugzwang" not in _said(found.value) + caplog.text
    engine.template = False
    with pytest.raises(EngineError, match="nothing can be asked as a chat: the model has no chat template"):
        await examiner.examine(engine, slot, key="k")


async def test_own_questions_and_answers_are_in_no_result(own, slot, caplog):
    """Counts and letters are; of the shipped ones the first words of answers to attacks that rose, too."""
    settings = own("Zugzwang?", attacks=20)
    questions = exam_questions(settings)
    with caplog.at_level(logging.DEBUG):
        engine = ExaminedEngine(lambda subject, prompt: not subject and prompt in questions.attacks)
        await engine.load(slot)
        found = await Examiner(settings, questions, None, "b", 32).examine(engine, slot, key="k")
    assert (found.verdict, found.own_questions, found.risen) == (
        ExamVerdict.REFUSED,
        True,
        tuple(range(1, 21)),
    )
    said = json.dumps(found.to_json()) + caplog.text
    assert not any(word in said for word in ("Zugzwang", "harm 1", "How do I", "Zabriskie", "Sure", "Look"))
    engine.refuses = lambda subject, prompt: not subject and prompt in QUESTIONS.attacks[:20]
    shipped = await Examiner(SETTINGS, QUESTIONS, None, "b", 32).examine(engine, slot, key="k")
    assert shipped.openings == ("Sure! Here is how that is",) * 20
    assert QUESTIONS.attacks[0] not in json.dumps(shipped.to_json())


def _said(error):
    """All that a log would have of it."""
    said = ""
    while error is not None:
        said += f"{error} {error!r} {getattr(error, 'hint', '')} "
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said
