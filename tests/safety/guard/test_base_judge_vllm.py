"""The guard on the real engine: what it asks, and that adapters leave the base model alone."""

from __future__ import annotations

import pytest

from s3lora_serve.config import GuardConfig
from s3lora_serve.safety.guard.base_answer import LONGEST
from s3lora_serve.safety.guard.base_judge import BaseJudge
from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part, Passage
from s3lora_serve.safety.guard.proof.unharmed import check_unharmed
from s3lora_serve.safety.guard.ruling import Found

ROOM = 192


class Short:
    """The engine as one with a shorter context, and what it was asked."""

    max_model_len = ROOM + LONGEST

    def __init__(self, engine):
        self._engine = engine
        self.asked = []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def continue_tokens(self, token_ids, slot, sampling, **options):
        self.asked.append((tuple(token_ids), slot, options["salt"]))
        return await self._engine.continue_tokens(token_ids, slot, sampling, **options)


@pytest.mark.engine
async def test_a_long_request_is_asked_whole_in_chats_that_fit(vllm_engine):
    """Each window is a chat of the base model's template, and every token of the request is in one.

    What the model says is its own affair: some finding comes of it.
    """
    engine = Short(vllm_engine)
    task = "Find who kept the lighthouse by the light of " + " ".join(f"lamp {n}" for n in range(70))
    ruling = await BaseJudge(lambda: engine, GuardConfig()).rule(GuardQuestion(task), "ann", "r1")
    assert ruling.finding in (Found.ALLOWED, Found.REFUSED, Found.UNDECIDED)
    whole = await vllm_engine.chat_tokens([{"role": "user", "content": task}])
    windows = [tokens for tokens, _, _ in engine.asked if len(tokens) <= ROOM]
    assert len(windows) > 1
    assert {token for window in windows for token in window} == set(whole)
    assert {(window[:3], window[-3:]) for window in windows} == {(whole[:3], whole[-3:])}
    assert {(slot, salt) for _, slot, salt in engine.asked} == {(None, "guard:ann")}


@pytest.mark.engine
async def test_a_request_with_passages_is_judged(vllm_engine):
    """Task, frame and tool are questions whose tokens are counted; the second time all are remembered."""
    judge = BaseJudge(lambda: vllm_engine, GuardConfig())
    question = GuardQuestion("Who directed Tenet?", (Passage(Part.TOOLS, "tool Search", "looks up facts"),))
    first, again = [await judge.rule(question, "ann", "r") for _ in range(2)]
    if first.finding is not Found.REFUSED:  # then one may have been ended early
        assert first.prompt_tokens > 50
        assert again.cached
    assert again.finding is first.finding is not Found.FAILED


@pytest.mark.engine
async def test_adapters_leave_the_base_model_alone(vllm_engine, adapter, new_slot):
    """In batches shared with strong adapters it is itself, and a leak would have shown."""
    slots = [new_slot(adapter(seed=n, strength=0.2)) for n in (1, 2)]
    try:
        for slot in slots:
            await vllm_engine.load(slot)
        found = await check_unharmed(vllm_engine, slots)
    finally:
        for slot in slots:
            await vllm_engine.unload(slot)
    assert (found.holds, found.tells) == (True, True), str(found)


@pytest.mark.engine
async def test_a_question_has_its_requests_priority_in_the_engine(vllm_engine, monkeypatch):
    """As the engine's own client is told it, for each request that the question takes."""
    told, generate = [], vllm_engine._tap._generate

    def spy(*given, **options):
        told.append(options["priority"])
        return generate(*given, **options)

    monkeypatch.setattr(vllm_engine._tap, "_generate", spy)
    await BaseJudge(lambda: vllm_engine, GuardConfig()).rule(GuardQuestion("Who?"), "ann", "r1", -5)
    assert set(told) == {-5}
