"""A trial generation: a loaded adapter must generate a few tokens before it answers requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import TrialFailed

if TYPE_CHECKING:
    from s3lora_serve.engine.port import Engine, Slot

# Short: it delays every load, and shows as much as a long one would. What an adapter says is not judged.
TRIAL_TOKENS = 4
_MESSAGES = ({"role": "user", "content": "Plan how to find out who wrote Hamlet."},)


async def try_out(engine: Engine, slot: Slot) -> str:
    """Generate a few tokens under the slot and return them.

    Raises TrialFailed when nothing comes, EngineError for what the engine raises. Scoring, which the probe
    does, runs no decoding step: an adapter can pass it and still break or end every answer at once.
    """
    answer = await engine.chat(_MESSAGES, slot, Sampling(max_tokens=TRIAL_TOKENS))
    if not answer.facts.output_tokens or not answer.text.strip():
        raise TrialFailed(
            f"slot {slot.name} answers nothing: {answer.facts.output_tokens} tokens,"
            f" finish_reason {answer.facts.finish_reason!r}",
            hint="the adapter may have been trained without answers; swap.trial: false skips this",
        )
    return answer.text
