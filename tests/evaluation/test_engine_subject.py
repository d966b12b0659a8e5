"""An adapter on an engine, as it would be after pruning; here on the fake one."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from faulty_engine import FaultyEngine

from s3lora_serve.adapters.peft.peft_format import read_peft, write_peft
from s3lora_serve.engine.port import Sampling, Slot
from s3lora_serve.errors import EngineDead, EngineRefused, SlotLoadError
from s3lora_serve.evaluation.measuring.engine_subject import EngineSubject

CHATS = [({"role": "user", "content": f"Say something about {thing}."},) for thing in ("tea", "rain", "cats")]
EXAMPLES = [(chat, "Of course, it is a fine thing.") for chat in CHATS]


@pytest.fixture
async def engine():
    """A fake engine with one slot; no law of the port may be broken on it."""
    engine = FaultyEngine(max_loras=1)
    yield engine
    assert engine.violations == []


@pytest.fixture
def peft(adapter):
    """An adapter of two projections in 30 layers."""
    return read_peft(adapter(seed=1))


@pytest.fixture
def half(peft):
    """Every other module."""
    return sorted(peft.modules)[::2]


async def test_answers_are_those_of_the_pruned_adapter(engine, peft, half, tmp_path):
    """They are what the engine says for the same folder as ``write_peft`` publishes it, in order."""
    async with EngineSubject(engine, peft, tmp_path / "work") as subject:
        pruned = await subject.answers(CHATS, half, 20)
        whole = await subject.answers(CHATS, (), 20)
        losses = await subject.losses(EXAMPLES, half)
    (tmp_path / "published").mkdir()
    write_peft(tmp_path / "published", peft, half)
    slot = Slot("planner@1", 99, tmp_path / "published")
    await engine.load(slot)
    served = [await engine.chat(chat, slot, Sampling(max_tokens=20)) for chat in CHATS]
    assert [made.text for made in served] == [answer.text for answer in pruned]
    assert [made.facts.output_tokens for made in served] == [answer.tokens for answer in pruned]
    assert {answer.text for answer in pruned} & {answer.text for answer in whole} == set()
    for (chat, text), loss in zip(EXAMPLES, losses, strict=True):
        scores = await engine.answer_scores(chat, text, slot)
        assert loss == pytest.approx(-sum(scores) / len(scores))


async def test_an_adapter_without_modules_is_the_base_model(engine, peft, tmp_path):
    """All pruned: nothing is loaded, and the base model answers."""
    async with EngineSubject(engine, peft, tmp_path) as subject:
        answers = await subject.answers(CHATS, peft.modules, 20)
        losses = await subject.losses(EXAMPLES, peft.modules)
        assert await engine.loaded() == frozenset()
    base = [await engine.chat(chat, None, Sampling(max_tokens=20)) for chat in CHATS]
    assert [made.text for made in base] == [answer.text for answer in answers]
    scores = await engine.answer_scores(*EXAMPLES[0], None)
    assert losses[0] == pytest.approx(-sum(scores) / len(scores))


async def test_whether_an_answer_ended_is_told(engine, peft, tmp_path):
    """One that max_tokens cut has as many tokens and did not end; the engine's seconds are there."""
    async with EngineSubject(engine, peft, tmp_path) as subject:
        (cut,) = await subject.answers(CHATS[:1], (), 3)
        (whole,) = await subject.answers(CHATS[:1], (), 100)
    assert (cut.tokens, cut.ended, whole.ended) == (3, False, True)
    assert whole.text.startswith(cut.text)
    assert whole.engine_seconds > 0


async def test_one_slot_is_loaded_once_for_all_questions(engine, peft, half, tmp_path, monkeypatch):
    """Questions about the same modules load nothing again, in whatever order these are named."""
    loads = []
    load = engine.load

    async def counted(slot):
        loads.append(slot)
        await load(slot)

    monkeypatch.setattr(engine, "load", counted)
    async with EngineSubject(engine, peft, tmp_path) as subject:
        await subject.answers(CHATS, half, 5)
        await subject.losses(EXAMPLES, reversed(half))
        await subject.answers(CHATS, (), 5)
        assert [slot.path.name for slot in loads] == ["1", "2"]
        assert [path.name for path in tmp_path.iterdir()] == ["2"]
    assert (await engine.loaded(), list(tmp_path.iterdir())) == (frozenset(), [])


async def test_subjects_share_an_engine(engine, adapter, tmp_path):
    """With shared ids, one after the other: no id is used twice, and each gives its own answers."""
    ids, answers = itertools.count(7), []
    for seed in (1, 2):
        subject = EngineSubject(
            engine, read_peft(adapter(seed=seed)), tmp_path / str(seed), name=f"a{seed}", ids=ids
        )
        async with subject:
            answers += await subject.answers(CHATS, (), 20)
    assert len({answer.text for answer in answers}) == 6
    assert next(ids) == 9


async def test_a_bounded_number_is_asked_at_a_time(peft, tmp_path):
    """Never more requests are under way than allowed, and each answered one is told of."""
    engine, told, seen = FaultyEngine(seconds_per_token=0.001), [], []
    subject = EngineSubject(engine, peft, tmp_path, concurrent=2, told=lambda: told.append(1))
    async with subject:
        asking = asyncio.create_task(subject.answers(CHATS * 3, (), 10))
        while not asking.done():
            seen.append(sum(engine.running(slot) for slot in engine.names.values() if slot))
            await asyncio.sleep(0)
        assert len(await asking) == 9
    assert (max(seen), len(told)) == (2, 9)


async def test_a_question_that_is_too_long_is_named(engine, peft, tmp_path, monkeypatch):
    """The error says which one; the others end, and the slot is free again."""
    chat = engine.chat

    async def strict(messages, slot, sampling):
        if "rain" in messages[-1]["content"]:
            raise EngineRefused("9000 tokens exceed max_model_len 2048", hint="shorten it")
        return await chat(messages, slot, sampling)

    monkeypatch.setattr(engine, "chat", strict)
    with pytest.raises(
        EngineRefused, match=r"question 2 \('Say something about rain.' ...\): 9000 .*; shorten it"
    ):
        async with EngineSubject(engine, peft, tmp_path) as subject:
            await subject.answers(CHATS, (), 5)
    assert await engine.loaded() == frozenset()


async def test_leaving_early_ends_the_requests(peft, tmp_path):
    """Cancelled in the middle, nothing runs on, and slot and folder are gone."""
    engine = FaultyEngine(seconds_per_token=0.01)

    async def ask():
        async with EngineSubject(engine, peft, tmp_path) as subject:
            await subject.answers(CHATS, (), 500)

    asking = asyncio.create_task(ask())
    while not any(engine.running(slot) for slot in engine.names.values() if slot):
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (await engine.loaded(), list(tmp_path.iterdir()), engine.violations) == (frozenset(), [], [])


async def test_an_engines_death_is_told_as_itself(engine, peft, tmp_path):
    """Not as what its clean-up raised."""
    engine.die_during("stream", after=2)
    with pytest.raises(EngineDead):
        async with EngineSubject(engine, peft, tmp_path) as subject:
            await subject.answers(CHATS, (), 5)


async def test_a_refused_adapter_leaves_no_folder(engine, peft, half, tmp_path):
    """The next set of modules is loaded under a new id."""
    engine.fail_load("*", "no memory")
    async with EngineSubject(engine, peft, tmp_path) as subject:
        with pytest.raises(SlotLoadError, match="no memory"):
            await subject.answers(CHATS, (), 5)
        assert list(tmp_path.iterdir()) == []
        engine.mend_loads()
        assert len(await subject.answers(CHATS, half, 5)) == 3


async def test_unknown_modules_are_a_defect(engine, peft, tmp_path):
    """What is to be left out must be there."""
    async with EngineSubject(engine, peft, tmp_path) as subject:
        with pytest.raises(KeyError, match="no such modules"):
            await subject.answers(CHATS, ["model.layers.99.self_attn.q_proj"], 5)
