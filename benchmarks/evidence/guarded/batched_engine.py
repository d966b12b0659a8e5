"""A transformers model behind the guard's own judge: what all requests ask at once is one batch."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from masked import MaskedAdapter

from s3lora_serve.config import GuardConfig
from s3lora_serve.engine.port import Completion, RequestFacts
from s3lora_serve.safety.guard.base_answer import LONGEST
from s3lora_serve.safety.guard.base_judge import BaseJudge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3lora_serve.engine.port import Engine, Sampling
    from s3lora_serve.safety.guard.guard_question import GuardQuestion
    from s3lora_serve.safety.guard.ruling import Ruling

_QUIET = 50  # turns of the event loop in which nobody asked anything more


@dataclass
class BatchedEngine:
    """As much of an engine as the judge needs. ``told`` hears how many answers each batch gave."""

    model: Any
    tokenizer: Any
    tokens: int
    told: Callable[[int], None] = lambda done: None
    version: str = "transformers"
    base_name: str = "base"
    max_model_len: int = 8192
    control_tokens: tuple[str, ...] = ()
    _known: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    _waiting: dict[tuple[int, ...], asyncio.Future[list[int]]] = field(default_factory=dict)

    async def chat_tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """See ``Engine``."""
        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    async def continue_tokens(
        self, token_ids: Sequence[int], slot: None, sampling: Sampling, *, salt: str = "", priority: int = 0
    ) -> Completion:
        """See ``Engine``. An answer is made to its greatest length at once, and handed out in pieces."""
        ids = tuple(token_ids)
        given = self._known.get(ids)
        if given is None:
            future = self._waiting.setdefault(ids, asyncio.get_running_loop().create_future())
            given = await asyncio.shield(future)  # others may wait for it when this one is left
        piece, rest = given[: sampling.max_tokens], given[sampling.max_tokens :]
        self._known[(*ids, *piece)] = rest
        ended = self.tokenizer.eos_token_id in piece
        facts = RequestFacts(
            None, "ok", len(ids), 0, len(piece), None, None, 0.0, "stop" if ended else "length"
        )
        return Completion(self.tokenizer.decode(piece, skip_special_tokens=True), facts, tuple(piece))

    async def rule(self, questions: Sequence[GuardQuestion]) -> list[Ruling]:
        """What the product's judge finds about each, asked by one caller who never waits too long."""
        judge = BaseJudge(lambda: cast("Engine", self), GuardConfig(by="base", seconds=600.0))
        ruled = asyncio.gather(*(judge.rule(q, "evidence", str(n)) for n, q in enumerate(questions)))
        while not ruled.done():
            for _ in range(_QUIET):
                await asyncio.sleep(0)
            if self._waiting:
                self._answer()
        return await ruled

    def _answer(self) -> None:
        asked, self._waiting = self._waiting, {}
        subject = MaskedAdapter(self.model, self.tokenizer, {}, [()], self.tokens)
        for ids, given in zip(asked, subject.continued(list(asked), LONGEST, self.told), strict=True):
            self._known[ids] = given
            asked[ids].set_result(given)
