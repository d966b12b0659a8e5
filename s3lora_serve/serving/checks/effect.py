"""Proof that a loaded adapter changes what the model says."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineError, NoEffectError
from s3lora_serve.fleet.proof import Effect, Proof

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Engine, Slot

PROBE_TOKENS = 24
NOISE_FACTOR = 4.0
TRIES = 3  # while noise may be what hides the effect
# nats; differences below are rounding of the log-softmax: log-probabilities of a vocabulary of 128,256 lie
# around -12, where float32 numbers are 1e-6 apart.
FLOOR = 3e-6


def probe_tokens(vocab_size: int) -> tuple[int, ...]:
    """``PROBE_TOKENS`` ids spread over the vocabulary, the same for each engine with that vocabulary.

    A golden-ratio walk: far-apart ids, no randomness, no tokenizer.
    """
    step = max(1, round(vocab_size * 0.6180339887))
    return tuple((step * (i + 1)) % vocab_size for i in range(PROBE_TOKENS))


class EffectCheck:
    """The check that an adapter changes what the model says."""

    name = "probe"

    async def __call__(self, engine: Engine, slot: Slot, revision: Revision) -> Proof:
        """Raises NoEffectError, EngineError."""
        return Proof(effect=await prove_effect(engine, slot))


async def prove_effect(engine: Engine, slot: Slot) -> Effect:
    """Score a fixed text under base, slot and base again; raise NoEffectError unless the slot stands out.

    vLLM answers 200 for an adapter whose modules match nothing and serves the base model (vllm#34186), so
    the only proof is in the numbers. The second base run measures the noise: a quarter of a nat in bfloat16
    where the runs share no step of the engine, which hides a weak adapter, and then it is tried again.
    Raises EngineError for scores that are not finite.
    """
    tokens = probe_tokens(engine.vocab_size)
    for _ in range(TRIES):
        effect = await _compared(engine, tokens, slot)
        needed = max(NOISE_FACTOR * effect.noise, FLOOR)
        if effect.max_abs_delta > needed:
            return effect
        if effect.noise <= FLOOR:
            break
    raise NoEffectError(
        f"slot {slot.name} changes the log-probabilities of {len(tokens)} probe tokens by "
        f"{effect.max_abs_delta:.2g} nats, not over {needed:.2g} (noise {effect.noise:.2g})",
        hint="its modules may match none of the model's layers, which vLLM does not report (vllm#34186), "
        "or its B matrices are zero: untrained",
    )


async def _compared(engine: Engine, tokens: tuple[int, ...], slot: Slot) -> Effect:
    """All runs are sent at once, so that they share a step and are compared under the same arithmetic.

    An idle engine begins a step with whatever comes first; that run is not looked at, and keeps it busy until
    the others are there. Where they are parted all the same the base runs are, too: the slot's is in between.
    """
    runs = (None, None, slot, None)
    found = await asyncio.gather(*(_scores(engine, tokens, one) for one in runs), return_exceptions=True)
    for scores in found:
        if isinstance(scores, BaseException):
            raise scores
    _, before, under, after = (scores for scores in found if not isinstance(scores, BaseException))
    return Effect(max_abs_delta=_distance(under, before), noise=_distance(after, before))


async def _scores(engine: Engine, tokens: tuple[int, ...], slot: Slot | None) -> tuple[float, ...]:
    scores = await engine.score(tokens, slot)
    who = slot.name if slot else "the base model"
    if len(scores) != len(tokens) - 1:
        raise EngineError(f"{who} scored {len(scores)} of {len(tokens) - 1} probe tokens")
    if bad := [s for s in scores if not math.isfinite(s)]:
        raise EngineError(
            f"{who} gives {bad[0]} on {len(bad)} of {len(scores)} probe tokens",
            hint="the weights may overflow float16: set engine.dtype: bfloat16",
        )
    return scores


def _distance(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
