"""What answers: an adapter on its base model, with chosen modules left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from s3lora_serve.judging.outcomes import Answer
    from s3lora_serve.judging.suite import Messages


class Subject(Protocol):
    """An adapter that can be asked as it would be after pruning; greedy, so that asking again agrees."""

    async def answers(
        self, chats: Sequence[Messages], dropped: Collection[str], max_tokens: int
    ) -> list[Answer]:
        """One answer to each chat, in order, with the modules ``dropped`` pruned."""
        ...

    async def losses(self, examples: Sequence[tuple[Messages, str]], dropped: Collection[str]) -> list[float]:
        """Mean negative log-likelihood (nats a token) of each reference answer, its end token not counted."""
        ...
