"""Proof that a loaded adapter changes what the model says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.engine.at_once import at_once
from s3lora_serve.engine.probe import FLOOR, probe_scores, probe_tokens, score_distance
from s3lora_serve.errors import NoEffectError
from s3lora_serve.fleet.proof import Effect, Proof

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Engine, Slot

NOISE_FACTOR = 4.0
TRIES = 3  # while noise may be what hides the effect


class EffectCheck:
    """The check that an adapter changes what the model says."""

    name = "probe"
    long = False

    async def __call__(
        self, engine: Engine, slot: Slot, revision: Revision, tell: Callable[[str], None]
    ) -> Proof:
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
    _, before, under, after = await at_once(probe_scores(engine, tokens, one) for one in runs)
    return Effect(max_abs_delta=score_distance(under, before), noise=score_distance(after, before))
