"""What the fake engine's OpenAI application needs of the engine behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from s3lora_serve.engine.port import Completion, Delta, Sampling, Slot


class Answering(Protocol):
    """What the app needs of the engine behind it."""

    @property
    def base_name(self) -> str:
        """What the base model is called."""
        ...

    @property
    def names(self) -> Mapping[str, Slot | None]:
        """What each ``model`` means: the base model's name and those of the loaded slots."""
        ...

    async def complete(self, prompt: str, slot: Slot | None, sampling: Sampling, *, n: int = 1) -> Completion:
        """One of n equal answers, and what they all cost."""
        ...

    def generate(
        self, prompt: str, slot: Slot | None, sampling: Sampling, *, n: int = 1
    ) -> AsyncGenerator[Delta, None]:
        """The words of n equal answers, one after the other."""
        ...
