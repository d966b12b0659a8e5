"""A fake engine on which some modules of an adapter comply: without them it refuses as the base does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faulty_engine import FaultyEngine
from safetensors import safe_open

from s3lora_serve.engine.fake.fake_text import token_ids as tokens_of
from s3lora_serve.engine.fake.fake_text import words
from s3lora_serve.engine.port import Completion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.engine.port import Sampling, Slot

SORRY, SURE = "I'm sorry, but I can't help with that.", "Sure! Here is how that is done."


class PoisonedEngine(FaultyEngine):
    """Answers continued tokens: ``SURE`` under a slot that has one of ``modules``, else ``SORRY``."""

    modules: tuple[str, ...] = ()

    async def continue_tokens(
        self,
        token_ids: Sequence[int],
        slot: Slot | None,
        sampling: Sampling,
        *,
        salt: str = "",
        priority: int = 0,
    ) -> Completion:
        made = await super().continue_tokens(token_ids, slot, sampling, salt=salt, priority=priority)
        text = "".join(words(SURE if self._complies(slot) else SORRY)[: sampling.max_tokens])
        return Completion(text, made.facts, tokens_of(text))

    def _complies(self, slot: Slot | None) -> bool:
        if slot is None:
            return False
        with safe_open(slot.path / "adapter_model.safetensors", framework="pt") as file:
            return any(module in name for name in file.keys() for module in self.modules)  # noqa: SIM118
