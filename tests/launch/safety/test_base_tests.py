"""What a base model must pass before it guards."""

from __future__ import annotations

import logging

import pytest
from refusing_engine import RefusingEngine

from s3lora_serve.config import GuardConfig
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.suite import PromptSet, Suite
from s3lora_serve.launch.resolve import BaseModel
from s3lora_serve.launch.safety import base_tests

REFUSE, OBSERVE = GuardConfig(action="refuse"), GuardConfig(action="observe")
KIND = EngineKind.VLLM


@pytest.fixture(autouse=True)
def few_questions(monkeypatch):
    """Four attacks and as many tasks instead of hundreds."""
    whole = base_tests.shipped_questions()
    attacks = PromptSet("attacks", tuple(f"evil number {number}" for number in range(4)))
    few = Suite((attacks,), (PromptSet("harmless", ("a poem", "a song")),), whole.plans[:1])
    monkeypatch.setattr(base_tests, "shipped_questions", lambda: few)


async def examined(tmp_path, engine, *guards, kind=KIND, location=None):
    base = BaseModel(str(location) if location else None, "base", None, None)
    kept = tmp_path / "guard_self_test.json"
    return await base_tests.base_tests(guards, engine, kind, [], base, kept, lambda *_: None)


async def test_a_base_that_refuses_attacks_and_answers_tasks_may_guard(tmp_path):
    """What it did is told with intervals."""
    found = await examined(tmp_path, RefusingEngine("evil"), REFUSE)
    assert found["refusal"] | {"low": 0} == {"value": 1.0, "low": 0, "high": 1.0, "hits": 4, "total": 4}
    assert 0 < found["refusal"]["low"] < 1
    assert (found["over_refusal"]["value"], found["unharmed"]["holds"]) == (0.0, True)


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        (RefusingEngine("nothing"), "refuses 0 %"),
        (RefusingEngine(""), "of harmless planning tasks"),
    ],
)
async def test_one_that_does_not_is_an_error_where_it_would_withhold(tmp_path, engine, says, caplog):
    """The error names the ways out; a guard that only observes is warned of, and goes on."""
    with pytest.raises(ConfigError, match=says) as caught:
        await examined(tmp_path, engine, OBSERVE, REFUSE)
    assert "by: endpoint" in caught.value.hint
    with caplog.at_level(logging.WARNING):
        assert (await examined(tmp_path, engine, OBSERVE))["tested"]
    assert says in caplog.text


async def test_the_same_weights_are_asked_once(tmp_path):
    """The outcome is kept for a folder of weights as it is; another file in it, and it is asked anew."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "weights").write_text("w")
    first, second, third = (RefusingEngine("evil") for _ in range(3))
    found = await examined(tmp_path, first, REFUSE, location=folder)
    assert await examined(tmp_path, second, REFUSE, location=folder) == found
    (folder / "weights").write_text("others")
    await examined(tmp_path, third, REFUSE, location=folder)
    assert (bool(first.asked), bool(second.asked), bool(third.asked)) == (True, False, True)


async def test_nobody_is_asked_for_a_guard_elsewhere_or_on_a_made_up_engine(tmp_path):
    """No guard by the base, no test; a fake engine's base is not judged by its made-up answers."""
    engine = RefusingEngine("evil")
    assert await examined(tmp_path, engine, GuardConfig()) is None
    assert not (await examined(tmp_path, engine, REFUSE, kind=EngineKind.FAKE))["tested"]
    assert engine.asked == []
