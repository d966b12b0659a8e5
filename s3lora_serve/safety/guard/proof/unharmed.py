"""Whether the base model is unharmed in batches that it shares with adapters: else it cannot guard them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.at_once import at_once
from s3lora_serve.engine.port import Sampling
from s3lora_serve.engine.probe import probe_scores, probe_tokens, score_distance
from s3lora_serve.engine.request_facts import for_the_guard
from s3lora_serve.safety.guard.base_answer import SALT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.engine.port import Engine, Slot

ROUNDS = 2
NOISE_FACTOR = 2.0
# nats; in bfloat16 the shape of a batch alone was measured to move a log-probability by a quarter of a nat.
ROUNDING = 0.5
TOKENS = 16  # that base and slots generate beside each other: steps of the engine in which their rows share
Scores = tuple[float, ...]


@dataclass(frozen=True)
class Unharmed:
    """How far the base model moved when adapters shared its batches, in nats, and how far it may.

    ``effect``: how far the adapters themselves are from it, at most; a leak smaller than ``tolerance`` is not
    seen, so that ``tells`` is False if no adapter is farther than that.
    """

    distance: float
    tolerance: float
    noise: float
    effect: float
    slots: int

    @property
    def holds(self) -> bool:
        """Whether it is the base model that answers, as far as its arithmetic tells."""
        return self.distance <= self.tolerance

    @property
    def tells(self) -> bool:
        """Whether a leak would have been seen."""
        return self.effect > self.tolerance

    def facts(self) -> dict[str, Any]:
        """What is told of it; distances in nats."""
        return {
            "holds": self.holds,
            "tells": self.tells,
            "distance": self.distance,
            "tolerance": self.tolerance,
        }

    def __str__(self) -> str:
        said = "is" if self.holds else "is NOT"
        return (
            f"the base model {said} itself beside {self.slots} adapters: it moved by {self.distance:.2g} nats"
            f" of at most {self.tolerance:.2g} (noise {self.noise:.2g}, adapters up to {self.effect:.2g})"
        )


async def check_unharmed(engine: Engine, slots: Sequence[Slot], *, rounding: float = ROUNDING) -> Unharmed:
    """Score and generate under the base model alone, then beside every slot, and compare.

    May be run at any time on slots that stay loaded meanwhile, and is run anew on each engine. The tolerance
    is twice the noise: the largest difference of base runs among themselves, one by one and as many at a time
    as the mixed batches have; but not less than ``rounding``. What base rows generate beside adapters is held
    to the same: where it parts from what they generate alone, both tokens must be about as likely to the base
    model, since only rounding may choose between them. Raises EngineError, EngineDead.
    """
    tokens = probe_tokens(engine.vocab_size)
    with for_the_guard():
        base: list[Scores] = []
        for _ in range(ROUNDS):
            base.append(await probe_scores(engine, tokens, None))
            base += await at_once(probe_scores(engine, tokens, None) for _ in range(len(slots) + 2))
        noise = max(score_distance(one, other) for one, other in combinations(base, 2))
        said = await _generated(engine, tokens, None)
        moved, effect = 0.0, 0.0
        for _ in range(ROUNDS):
            mixed = [None, *slots, None]
            runs = await at_once(_both(engine, tokens, slot) for slot in mixed)
            for slot, (scores, continued) in zip(mixed, runs, strict=True):
                distance = max(min(score_distance(one, own) for own in base) for one in scores)
                if slot is None:
                    moved = max(moved, distance, await _parted(engine, tokens, said, continued))
                else:
                    effect = max(effect, distance)
    return Unharmed(moved, max(NOISE_FACTOR * noise, rounding), noise, effect, len(slots))


async def _both(
    engine: Engine, tokens: Sequence[int], slot: Slot | None
) -> tuple[list[Scores], tuple[int, ...]]:
    """Scores and a continuation: prompts are read beside other prompts, and beside what generates."""
    generating = asyncio.create_task(_generated(engine, tokens, slot))
    try:
        scores = [await probe_scores(engine, tokens, slot) for _ in range(2)]
        return scores, await generating
    finally:
        generating.cancel()
        await asyncio.gather(generating, return_exceptions=True)


async def _generated(engine: Engine, tokens: Sequence[int], slot: Slot | None) -> tuple[int, ...]:
    return (await engine.continue_tokens(tokens, slot, Sampling(TOKENS), salt=SALT)).token_ids


async def _parted(engine: Engine, tokens: Sequence[int], one: Sequence[int], other: Sequence[int]) -> float:
    """How much likelier one of two continuations is to the base model where they part, in nats; or 0."""
    for at, pair in enumerate(zip(one, other, strict=False)):
        if len(set(pair)) > 1:
            before = (*tokens, *one[:at])
            likely = [(await probe_scores(engine, (*before, token), None))[-1] for token in pair]
            return abs(likely[0] - likely[1])
    return 0.0
