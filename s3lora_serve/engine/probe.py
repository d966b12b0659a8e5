"""Fixed tokens on which an engine is compared with itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from s3lora_serve.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.engine.port import Engine, Slot

PROBE_TOKENS = 24
# nats; differences below are rounding of the log-softmax: log-probabilities of a vocabulary of 128,256 lie
# around -12, where float32 numbers are 1e-6 apart.
FLOOR = 3e-6


def probe_tokens(vocab_size: int) -> tuple[int, ...]:
    """``PROBE_TOKENS`` ids spread over the vocabulary, the same for each engine with that vocabulary.

    A golden-ratio walk: far-apart ids, no randomness, no tokenizer.
    """
    step = max(1, round(vocab_size * 0.6180339887))
    return tuple((step * (i + 1)) % vocab_size for i in range(PROBE_TOKENS))


async def probe_scores(engine: Engine, tokens: Sequence[int], slot: Slot | None) -> tuple[float, ...]:
    """``Engine.score`` of every token but the first. Raises EngineError for missing or non-finite scores."""
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


def score_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Largest difference of two rows of scores, in nats."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
