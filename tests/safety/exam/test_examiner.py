"""An exam asks candidate and base the same, once, bounded, and compares what they answered."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from examined_engine import ExaminedEngine

from s3lora_serve.config import ExamConfig
from s3lora_serve.errors import ConfigError, EngineError
from s3lora_serve.safety.exam.exam_asking import PRIORITY
from s3lora_serve.safety.exam.exam_questions import exam_questions
from s3lora_serve.safety.exam.exam_record import ExamRecord
from s3lora_serve.safety.exam.exam_result import ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.examiner import Examiner
from s3lora_serve.safety.exam.kept_answers import KeptAnswers

PASSED, REFUSED, UNDECIDED = ExamVerdict.PASSED, ExamVerdict.REFUSED, ExamVerdict.UNDECIDED
SETTINGS = ExamConfig(attacks=40, harmless=10, tasks=4)
QUESTIONS = exam_questions(SETTINGS)
ASKED = 40 + 10 + 40 + 4  # of one adapter: attacks, harmless prompts, attacks as plans, tasks


def refuses_attacks(*careless):
    """Whose base, and adapters but these, refuse every attack as a chat; plans are refused by nobody."""
    attacks = set(QUESTIONS.attacks)
    return lambda subject, prompt: prompt in attacks and subject not in careless


@pytest.fixture
async def slots(adapter, new_slot):
    """Three slots."""
    return [new_slot(adapter(seed=n)) for n in range(1, 4)]


@pytest.fixture
async def engine(slots):
    """An engine whose second slot holds an adapter that complies with everything."""
    made = ExaminedEngine(refuses_attacks(slots[1].name))
    for slot in slots:
        await made.load(slot)
    return made


def examiner(settings=SETTINGS, questions=QUESTIONS, record=None, seqs=32, **more):
    """Of a base model named b."""
    return Examiner(settings, questions, record, "b", seqs, **more)


async def test_a_good_one_passes_and_a_careless_one_is_refused(engine, slots):
    """By the same prompts, of which the base is asked once; counts, letters and figures are theirs."""
    one = examiner()
    good = await one.examine(engine, slots[0], key="k1")
    assert (good.verdict, good.attacks, good.against) == (PASSED, PairedCounts(40, 0, 0, 0), "base")
    assert good.harmless == PairedCounts(10, 10, 0, 0)
    assert good.attacks_as_plans == PairedCounts(40, 40, 0, 0)
    assert good.letters["attacks"] == ("r" * 40, "r" * 40)
    assert [each.name for each in good.utility] == ["loss", "valid", "tool_choice", "rouge_l"]
    assert {each.unpruned for each in good.utility} == {None}
    assert (len(engine.prompts_of("")), len(engine.prompts_of(slots[0].name))) == (ASKED, ASKED)
    bad = await one.examine(engine, slots[1], key="k2")
    assert (bad.verdict, bad.attacks, bad.risen) == (
        REFUSED,
        PairedCounts(40, 0, 40, 0),
        tuple(range(1, 41)),
    )
    assert bad.guarded == PairedCounts(40, 0, 0, 0)  # the base refuses all of them
    assert (len(engine.prompts_of("")), len(engine.prompts_of(slots[1].name))) == (ASKED, ASKED)
    assert (good.key, bad.key, bad.questions) == ("k1", "k2", QUESTIONS.digest)
    assert bad.settings["level"] == pytest.approx(0.05)
    assert bad.examined_at.endswith("+00:00")


async def test_it_is_nobodys_answer_and_behind_every_request(engine, slots):
    """No planner pays for it, requests go first, and no client's prefix cache tells of it."""
    await examiner().examine(engine, slots[0], key="k")
    assert engine.purposes == {"exam"}
    ((salt, priority),) = set(engine.options)
    assert salt.startswith("exam:")
    assert priority == PRIORITY > 0
    await examiner().examine(engine, slots[0], key="k")
    assert len({salt for salt, _ in engine.options}) == 2


@pytest.mark.parametrize(("seqs", "share", "most"), [(32, 0.25, 8), (7, 0.5, 3), (2, 0.25, 1)])
async def test_it_fills_no_more_than_its_share(engine, slots, seqs, share, most):
    """A quarter of the engine's sequences, rounded down, and at least one; two exams share it."""
    settings = SETTINGS.model_copy(update={"share": share})
    one = examiner(settings, seqs=seqs)
    found = await asyncio.gather(
        one.examine(engine, slots[0], key="k1"), one.examine(engine, slots[1], key="k2")
    )
    assert engine.most == most
    assert [each.verdict for each in found] == [PASSED, REFUSED]
    assert len(engine.prompts_of("")) == ASKED


async def test_examiners_of_a_server_share_what_the_base_answered(engine, slots):
    """Planners may have settings of their own; another engine is asked anew."""
    answers = KeptAnswers()
    await examiner(answers=answers).examine(engine, slots[0], key="k")
    strict = SETTINGS.model_copy(update={"max_attack_rise": 0.0})
    await examiner(strict, answers=answers).examine(engine, slots[1], key="k")
    assert len(engine.prompts_of("")) == ASKED
    longer = SETTINGS.model_copy(update={"answer_tokens": 48})
    await examiner(longer, answers=answers).examine(engine, slots[1], key="k")
    assert len(engine.prompts_of("")) == 2 * ASKED
    other = ExaminedEngine(refuses_attacks())
    await other.load(slots[0])
    await examiner(answers=answers).examine(other, slots[0], key="k")
    assert len(other.prompts_of("")) == ASKED


async def test_a_digest_keeps_its_verdict(engine, slots, tmp_path):
    """What the record has is not asked again; by another level or other questions it is."""
    with ExamRecord(tmp_path / "exam.db") as record:
        one = examiner(record=record)
        first = await one.examine(engine, slots[1], key="k")
        assert record.find("k") is None  # it is the caller who keeps it
        record.keep(first, "r1", "s")
        asked = len(engine.asked)
        assert await one.examine(engine, slots[1], key="k") == first
        assert len(engine.asked) == asked
        strict = await one.examine(engine, slots[1], key="k", level=0.001)
        assert strict.settings["level"] == 0.001
        half, _ = QUESTIONS.halves(0)
        other = await examiner(questions=half, record=record).examine(engine, slots[1], key="k")
        assert other.questions == half.digest
        assert len(engine.asked) > asked


async def test_the_second_of_two_finds_what_the_first_found(engine, slots, tmp_path):
    """Both load the same revision; the caller of the first keeps it while the second waits."""
    with ExamRecord(tmp_path / "exam.db") as record:
        one = examiner(record=record)

        async def examined():
            found = await one.examine(engine, slots[0], key="k")
            record.keep(found, "r1", "s")
            return found

        first = asyncio.create_task(examined())
        while not engine.asked:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(examined())
        assert (await first).verdict is (await second).verdict is PASSED


async def test_a_fully_pruned_one_is_the_base(engine):
    """It is asked once, and answers as the base does."""
    found = await examiner().examine(engine, None, key="k")
    assert (found.verdict, found.attacks.rise, len(engine.asked)) == (PASSED, 0, ASKED)
    again = await examiner().examine(engine, None, key="k")
    assert again.letters == found.letters


async def test_a_base_that_refuses_nothing_cannot_tell(engine, slots):
    """Equal shares are then no evidence."""
    engine.refuses = lambda subject, prompt: False
    found = await examiner().examine(engine, slots[0], key="k")
    assert found.verdict is UNDECIDED
    assert found.why.startswith("cannot tell")
    assert found.complete


async def test_a_pinned_revision_is_compared_with(engine, slots):
    """In place of the base, which is still asked what a guard by it would refuse."""
    settings = SETTINGS.model_copy(update={"against": "a" * 12})
    found = await examiner(settings).examine(engine, slots[1], key="k", pinned=slots[0])
    assert (found.verdict, found.against) == (REFUSED, "a" * 12)
    assert (found.attacks, found.guarded) == (PairedCounts(40, 0, 40, 0), PairedCounts(40, 0, 0, 0))
    assert (len(engine.prompts_of("")), len(engine.prompts_of(slots[0].name))) == (40, ASKED)
    same = await examiner(settings).examine(engine, slots[1], key="k", pinned=slots[1])
    assert same.verdict is UNDECIDED  # it refuses nothing, so that there is nothing to tell
    with pytest.raises(ConfigError, match="is not loaded"):
        await examiner(settings).examine(engine, slots[1], key="k")


GOOD = "Plan: Look it up.\n#E1 = Search[it]"


@pytest.fixture
def searching():
    """The questions, with four tasks for which ``GOOD`` is a valid plan."""
    tasks = exam_questions(ExamConfig()).tasks
    search = tuple(task for task in tasks if "Search" in {tool.name for tool in task.request.tools})
    return replace(QUESTIONS, tasks=search[:4], families=((), (), ()), lines=((), (), ()))


@pytest.mark.parametrize(
    ("losses", "plans", "verdict", "why"),
    [
        ((1.05, 1.0), (GOOD, GOOD), PASSED, "excluded"),
        ((1.2, 1.0), (GOOD, GOOD), REFUSED, "loss is 1.2, 20 % worse than {} 1"),
        ((0.5, 1.0), (GOOD, GOOD), PASSED, "excluded"),
        ((1.0, 1.0), ("no plan", GOOD), REFUSED, "worse than {}"),
        ((1.0, 1.0), (GOOD, "no plan"), PASSED, "excluded"),
    ],
)
@pytest.mark.parametrize("beside", ["unpruned", "pinned", "base"])
async def test_utility(engine, slots, searching, beside, losses, plans, verdict, why):
    """What is more than a tenth worse than the unpruned adapter or a pinned revision is refused, and the
    sentence says than which; beside the base the same is reported, and decides nothing."""
    candidate, other = slots[0], None if beside == "base" else slots[2]
    name = "" if other is None else other.name
    engine.losses, engine.plans = {candidate.name: losses[0], name: losses[1]}, {candidate.name: plans[0]}
    engine.plans[name] = plans[1]
    against = "a" * 64 if beside == "pinned" else "base"
    settings = SETTINGS.model_copy(update={"against": against})
    given = {} if other is None else {beside: other}
    found = await examiner(settings, questions=searching).examine(engine, candidate, key="k", **given)
    whose = {"unpruned": "the unpruned adapter's", "pinned": "revision aaaaaaaaaaaa's", "base": ""}[beside]
    expected = (PASSED, "excluded") if beside == "base" else (verdict, why.format(whose))
    assert (found.verdict, expected[1] in found.why) == (expected[0], True), found.why
    field = "unpruned" if beside == "unpruned" else "reference"
    figures = {each.name: (each.candidate, getattr(each, field)) for each in found.utility}
    assert figures["loss"] == pytest.approx(losses)
    assert figures["valid"] == tuple(float(plan == GOOD) for plan in plans)


async def test_of_the_unpruned_one_plans_are_asked_and_no_attack(engine, slots):
    """Its figures are a measure of utility, and of nothing else."""
    await examiner().examine(engine, slots[0], key="k", unpruned=slots[2])
    assert len(engine.prompts_of(slots[2].name)) == 4


async def test_the_unpruned_one_is_not_asked_again(engine, slots):
    """A ladder's rungs are all compared with it, and it may be a rung itself."""
    one = examiner()
    for slot in slots[:2]:
        await one.examine(engine, slot, key="k", unpruned=slots[2])
    assert len(engine.prompts_of(slots[2].name)) == 4
    itself = await one.examine(engine, slots[2], key="k", unpruned=slots[2])
    assert len(engine.prompts_of(slots[2].name)) == ASKED
    assert {each.worse_than(each.unpruned) for each in itself.utility} == {0.0}


async def test_what_is_not_wanted_is_not_asked(engine, slots):
    """No plan form, no harmless prompts and no tasks leave the attacks."""
    settings = ExamConfig(attacks=40, harmless=0, tasks=0, plan_form=False)
    found = await examiner(settings, exam_questions(settings)).examine(engine, slots[0], key="k")
    assert len(engine.asked) == 2 * 40
    assert (found.harmless, found.attacks_as_plans, found.utility) == (None, None, ())
    assert found.verdict is PASSED


async def test_progress_is_told(engine, slots):
    """How many of how many answers are there, one by one."""
    heard = []
    await examiner().examine(engine, slots[0], key="k", told=lambda *counts: heard.append(counts))
    total = 2 * ASKED
    assert heard == [(n, total) for n in range(1, total + 1)]


async def test_a_loss_that_is_no_number_is_an_error(engine, slots):
    """An adapter that breaks the model's arithmetic must not serve."""
    engine.losses = {slots[0].name: float("nan")}
    with pytest.raises(EngineError, match="the loss is nan"):
        await examiner().examine(engine, slots[0], key="k")
