"""A fake engine whose adapters leak into the base model's rows, as with kernels that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faulty_engine import FaultyEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.engine.port import Completion, Sampling, Slot


class LeakyEngine(FaultyEngine):
    """Takes a base row for one of a slot that shares its batch, in scores or when it generates."""

    scores = generates = False

    async def score(self, token_ids: Sequence[int], slot: Slot | None) -> tuple[float, ...]:
        own = await super().score(token_ids, slot)
        return await super().score(token_ids, self._leaked(slot)) if self.scores else own

    async def continue_tokens(
        self, token_ids: Sequence[int], slot: Slot | None, sampling: Sampling, **options: Any
    ) -> Completion:
        slot = self._leaked(slot) if self.generates else slot
        return await super().continue_tokens(token_ids, slot, sampling, **options)

    def _leaked(self, slot: Slot | None) -> Slot | None:
        shared = [one for one in self._slots.by_name.values() if self.running(one)]
        return shared[0] if slot is None and shared else slot
