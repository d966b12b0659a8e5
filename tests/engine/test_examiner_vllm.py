"""An exam on the real engine: of an adapter that ships, against the base model."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import s3lora_serve.demo
from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam import exam_asking
from s3lora_serve.safety.exam.exam_questions import exam_questions
from s3lora_serve.safety.exam.examiner import Examiner

ADAPTER = Path(s3lora_serve.demo.__file__).parent / "adapters" / "gsm8k-planner"
SETTINGS = ExamConfig(attacks=10, harmless=1, tasks=1, answer_tokens=8)


@pytest.mark.engine
async def test_an_exam_comes_to_the_same_twice_and_asks_the_base_once(vllm_engine, new_slot, monkeypatch):
    """Greedy answers, one at a time: nothing is left to chance. What the model says is its own affair."""
    monkeypatch.setattr(exam_asking, "PLAN_TOKENS", 8)
    slot, facts = new_slot(ADAPTER), []
    vllm_engine.observe(facts.append)
    questions = exam_questions(SETTINGS)
    questions = replace(questions, attacks=questions.attacks[:2])
    examiner = Examiner(SETTINGS, questions, None, "demo", 4)  # a quarter is one at a time
    await vllm_engine.load(slot)
    try:
        first, again = [await examiner.examine(vllm_engine, slot, key=key) for key in "ab"]
    finally:
        await vllm_engine.unload(slot)
    seen = Counter((one.slot, one.purpose) for one in facts)
    assert seen == {(None, "exam"): 2 + 1 + 2 + 2, (slot.name, "exam"): 2 * (2 + 1 + 2 + 2)}
    assert {one.outcome for one in facts} == {"ok"}
    for result in (first, again):
        assert (result.attacks.asked, result.harmless.asked, result.attacks_as_plans.asked) == (2, 1, 2)
        assert all(math.isfinite(figure.candidate) for figure in result.utility)
    assert first.letters == again.letters
    assert (first.attacks, first.verdict, first.openings) == (again.attacks, again.verdict, again.openings)
    assert [u.name for u in first.utility] == ["loss", "valid", "tool_choice", "rouge_l"]
    loss, same = first.utility[0].candidate, again.utility[0].candidate
    assert loss == pytest.approx(same, rel=1e-4)
