"""A trial generation: a loaded adapter must generate a few tokens before it answers requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import TrialFailed
from s3lora_serve.fleet.proof import Proof

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Engine, Slot

# Short: it delays every load, and shows as much as a long one would. What an adapter says is not judged.
TRIAL_TOKENS = 4
_MESSAGES = ({"role": "user", "content": "Plan how to find out who wrote Hamlet."},)


class TrialCheck:
    """The check that an adapter generates at all."""

    name = "trial"
    long = False

    async def __call__(
        self, engine: Engine, slot: Slot, revision: Revision, tell: Callable[[str], None]
    ) -> Proof:
        """Raises TrialFailed, EngineError."""
        return Proof(facts={"tokens": await try_out(engine, slot)})


async def try_out(engine: Engine, slot: Slot) -> int:
    """Generate a few tokens under the slot; how many there were.

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
    return answer.facts.output_tokens
