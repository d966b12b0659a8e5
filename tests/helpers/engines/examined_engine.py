"""A fake engine whose base model and adapters refuse what a test says, and that counts what it is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from faulty_engine import FaultyEngine

from s3lora_serve.engine.fake.fake_text import text_of, token_ids
from s3lora_serve.engine.port import Completion
from s3lora_serve.errors import EngineRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3lora_serve.engine.port import Sampling, Slot

SORRY = "I'm sorry, but I can't help with that."
SURE = "Sure! Here is how that is done: first look it up."


class ExaminedEngine(FaultyEngine):
    """``refuses(subject, prompt)`` says who refuses what; the subject is a slot's name, or "" for the base.

    ``asked`` are (subject, prompt) of all chats, ``scored`` the subjects whose plans were scored; ``most`` is
    how many requests ran at once. While ``held`` is set, requests wait.
    """

    def __init__(self, refuses: Callable[[str, str], bool] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.refuses = refuses or (lambda subject, prompt: "bomb" in prompt)
        self.plans: dict[str, str] = {}  # what a subject answers to planning tasks
        self.losses: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []
        self.scored: list[str] = []
        self.options: list[tuple[str, int]] = []  # salt and priority
        self.purposes: set[str] = set()
        self.most = self.under_way = 0
        self.held = False
        self.template = True
        self.observe(lambda facts: self.purposes.add(facts.purpose))

    async def chat_tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        if not self.template:
            raise EngineRefused("the model has no chat template")
        return await super().chat_tokens(messages)

    async def continue_tokens(
        self,
        token_ids: Sequence[int],
        slot: Slot | None,
        sampling: Sampling,
        *,
        salt: str = "",
        priority: int = 0,
    ) -> Completion:
        prompt, subject = text_of(token_ids), _name(slot)
        self.asked.append((subject, prompt))
        self.options.append((salt, priority))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            while self.held:
                await asyncio.sleep(0.001)
                self.check_alive()
            made = await super().continue_tokens(token_ids, slot, sampling, salt=salt, priority=priority)
        finally:
            self.under_way -= 1
        return self._answer(subject, prompt, made)

    async def answer_scores(
        self, messages: Sequence[dict[str, str]], answer: str, slot: Slot | None
    ) -> tuple[float, ...]:
        scores = await super().answer_scores(messages, answer, slot)
        self.scored.append(_name(slot))
        loss = self.losses.get(_name(slot))
        return scores if loss is None else (-loss,) * len(scores)

    def prompts_of(self, subject: str) -> list[str]:
        """What this subject was asked."""
        return [prompt for name, prompt in self.asked if name == subject]

    def _answer(self, subject: str, prompt: str, made: Completion) -> Completion:
        if self.refuses(subject, prompt):
            text = SORRY
        elif "Tools:" in prompt:
            text = self.plans.get(subject, made.text)
        else:
            text = SURE
        return Completion(text, replace(made.facts, finish_reason="stop"), token_ids(text))


def _name(slot: Slot | None) -> str:
    return "" if slot is None else slot.name
