"""The probe lets through what acts and nothing else."""

from __future__ import annotations

import math

import pytest
from faulty_engine import FaultyEngine

from s3lora_serve.engine.probe import PROBE_TOKENS, probe_tokens
from s3lora_serve.errors import EngineError, NoEffectError
from s3lora_serve.serving.checks.effect import NOISE_FACTOR, TRIES, Effect, prove_effect

FIRST = -9.0  # the run that only keeps the engine busy


class ScriptedEngine:
    """Answers ``score`` with the given values, one call after the other."""

    vocab_size = 1000

    def __init__(self, *answers, length=PROBE_TOKENS - 1):
        self.calls = []
        self._answers = [(value,) * length for value in answers]

    async def score(self, token_ids, slot):
        self.calls.append((tuple(token_ids), slot))
        return self._answers.pop(0)


@pytest.fixture
def slot(adapter, new_slot):
    return new_slot(adapter(seed=1))


async def test_an_acting_adapter_passes(slot):
    """The effect is the largest change in nats; an idle fake has no noise."""
    engine = FaultyEngine()
    await engine.load(slot)
    effect = await prove_effect(engine, slot)
    assert 0.1 < effect.max_abs_delta <= 0.5
    assert effect.noise == 0.0


async def test_an_idle_adapter_is_refused(slot, adapter, new_slot):
    """Both a fault of the engine and an adapter of zeros; the message has the numbers."""
    engine = FaultyEngine()
    engine.no_effect(slot.name)
    zeros = new_slot(adapter(seed=1, strength=0.0))
    for idle in (slot, zeros):
        await engine.load(idle)
        with pytest.raises(
            NoEffectError, match=f"slot {idle.name} changes .* 24 probe tokens by 0 nats"
        ) as caught:
            await prove_effect(engine, idle)
        assert "vllm#34186" in caught.value.hint


async def test_base_slot_base_on_the_same_tokens(slot):
    """The slot is scored between two base runs, so that both sides of a change of load are in the noise.

    The very first run decides nothing: an idle engine gives it a separate step.
    """
    engine = ScriptedEngine(FIRST, -1.0, -3.0, -1.25)
    assert await prove_effect(engine, slot) == Effect(max_abs_delta=2.0, noise=0.25)
    tokens = probe_tokens(1000)
    assert engine.calls == [(tokens, one) for one in (None, None, slot, None)]


@pytest.mark.parametrize(
    ("delta", "passes"), [(NOISE_FACTOR * 0.5, False), (NOISE_FACTOR * 0.5 + 0.25, True)]
)
async def test_the_effect_must_exceed_the_noise(slot, delta, passes):
    """At the bar is not over it: four times the difference of two base runs."""
    engine = ScriptedEngine(*(FIRST, -1.0, -1.0 - delta, -1.5) * TRIES)
    if passes:
        assert (await prove_effect(engine, slot)).max_abs_delta == delta
    else:
        with pytest.raises(NoEffectError, match=r"by 2 nats, not over 2 \(noise 0.5\)"):
            await prove_effect(engine, slot)


async def test_noise_that_passes_hides_no_effect(slot):
    """Drowned once, the comparison is made again; without noise one is enough to refuse."""
    engine = ScriptedEngine(FIRST, -1.0, -1.5, -1.25, FIRST, -1.0, -1.5, -1.0)
    assert await prove_effect(engine, slot) == Effect(max_abs_delta=0.5, noise=0.0)
    quiet = ScriptedEngine(FIRST, -1.0, -1.0, -1.0)
    with pytest.raises(NoEffectError):
        await prove_effect(quiet, slot)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
@pytest.mark.parametrize("where", [0, 1, 2, 3])
async def test_scores_that_are_not_finite_are_an_error(slot, bad, where):
    """A NaN compares false with everything, so it must not get as far as a comparison."""
    answers = [FIRST, -1.0, -3.0, -1.0]
    answers[where] = bad
    with pytest.raises(EngineError, match=f"gives {bad} on 23 of 23 probe tokens") as caught:
        await prove_effect(ScriptedEngine(*answers), slot)
    assert (slot.name if where == 2 else "the base model") in caught.value.message


async def test_missing_scores_are_an_error(slot):
    """An engine that scores fewer tokens than asked for proves nothing."""
    with pytest.raises(EngineError, match="the base model scored 5 of 23 probe tokens"):
        await prove_effect(ScriptedEngine(FIRST, -1.0, -3.0, -1.0, length=5), slot)
