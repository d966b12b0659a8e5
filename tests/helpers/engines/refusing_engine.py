"""A fake engine whose base model refuses what holds certain words, as one that its makers aligned does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from faulty_engine import FaultyEngine

from s3lora_serve.engine.fake.fake_text import text_of, token_ids, words
from s3lora_serve.engine.port import Completion, Sampling
from s3lora_serve.errors import EngineRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3lora_serve.engine.port import RequestFacts, Slot

SORRY = "I'm sorry, but I can't help with that."
SURE = "Sure! You can look that up."
_USER, _ASSISTANT = "<|user|>", "<|assistant|>"  # its chat template


class RefusingEngine(FaultyEngine):
    """Answers continued tokens: ``SORRY`` if a word of ``refuses`` is in them, else by ``says``, or ``SURE``.

    ``asked`` are the texts that it was asked, ``salts`` theirs; ``ended`` counts the requests that ended,
    however, and ``under_way`` those that did not. Those hang until the engine's death that are ``slow``.
    """

    def __init__(
        self, *refuses: str, says: dict[str, str] | None = None, template: bool = True, **settings: Any
    ) -> None:
        super().__init__(control_tokens=(_USER, _ASSISTANT), **settings)
        self.refuses, self.says, self.template = refuses, says or {}, template
        self.asked: list[str] = []
        self.salts: list[str] = []
        self.priorities: list[int] = []  # of all requests, also of those that ask for the rest of an answer
        self.ended = self.under_way = 0
        self.slow: Callable[[str], bool] = lambda asked: False
        self.purposes: list[str] = []
        self.observe(self._seen)

    async def chat_tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        if not self.template:
            raise EngineRefused("the model has no chat template")
        content = "\n".join(message["content"] for message in messages)
        await super().chat_tokens(messages)
        return token_ids(f"{_USER}{content}{_ASSISTANT}")

    async def continue_tokens(
        self,
        token_ids: Sequence[int],
        slot: Slot | None,
        sampling: Sampling,
        *,
        salt: str = "",
        priority: int = 0,
    ) -> Completion:
        asked = text_of(token_ids).removeprefix(_USER)
        said = ""
        if _ASSISTANT in asked:
            asked, said = asked.split(_ASSISTANT)
            self.asked.append(asked)
            self.salts.append(salt)
        self.priorities.append(priority)
        self.under_way += 1
        try:
            while self.slow(asked):
                await asyncio.sleep(0.001)
                self.check_alive()
            cost = await super().continue_tokens(token_ids, slot, sampling, salt=salt, priority=priority)
        finally:
            self.ended += 1
            self.under_way -= 1
        return self._answer(asked, said, sampling, cost.facts)

    def _answer(self, asked: str, said: str, sampling: Sampling, facts: RequestFacts) -> Completion:
        answer = next((text for word, text in self.says.items() if word in asked), SURE)
        if any(word in asked for word in self.refuses):
            answer = SORRY
        rest = answer.removeprefix(said)
        kept = "".join(words(rest)[: sampling.max_tokens])
        reason = "stop" if kept == rest else "length"
        facts = replace(facts, output_tokens=len(words(kept)), finish_reason=reason)
        return Completion(kept, facts, token_ids(kept))

    def _seen(self, facts: RequestFacts) -> None:
        self.purposes.append(facts.purpose)
