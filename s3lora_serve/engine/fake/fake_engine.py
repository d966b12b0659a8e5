"""A deterministic engine without a model: for tests, and to look at what serves. Needs no torch, no vLLM"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from s3lora_serve.engine.fake.fake_openai import make_app
from s3lora_serve.engine.fake.fake_slots import FakeSlots
from s3lora_serve.engine.fake.fake_text import PlanWriter, answer, text_of, token_ids, words, write_plan
from s3lora_serve.engine.in_flight import InFlight
from s3lora_serve.engine.port import Completion, Delta, EngineKind, RequestFacts, Sampling, Slot
from s3lora_serve.engine.request_facts import collected_facts
from s3lora_serve.engine.signs_of_life import SignsOfLife
from s3lora_serve.errors import ContextTooLong, EngineDead, EngineRefused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.applications import Starlette

    from s3lora_serve.engine.port import Observer
    from s3lora_serve.engine.signs_of_life import EngineProgress

Call = Literal["score", "stream"]
MAX_NUM_SEQS = 256  # that it could be said to work on at once; none ever waits


class FakeEngine:
    """Keeps the promises of ``engine/port.py`` in memory.

    Log-probabilities and answers are functions of the tokens and of the adapter's weights file: two
    adapters differ, the same one never does, and one whose lora_B tensors are all zero acts like the base
    model. ``plan`` writes the plans; ``seconds_per_token`` makes requests take time.
    """

    def __init__(
        self,
        *,
        base_name: str = "fake-base",
        vocab_size: int = 49152,
        max_model_len: int = 2048,
        max_loras: int = 4,
        max_lora_rank: int = 16,
        plan: PlanWriter = write_plan,
        seconds_per_token: float = 0.0,
        control_tokens: tuple[str, ...] = (),
    ) -> None:
        self._dead = False
        self._base_name = base_name
        self.seconds_per_token = seconds_per_token
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._control_tokens = control_tokens
        self._plan = plan
        self._in_flight = InFlight()
        self._signs = SignsOfLife()
        self._slots = FakeSlots(self.die, self._in_flight, base_name, max_loras, max_lora_rank)
        self._app = make_app(self)

    # Beside the port

    @property
    def violations(self) -> list[str]:
        """Each time a caller broke one of the port's laws, in words; empty for a runtime that is right."""
        return self._slots.violations

    def die(self) -> None:
        """Stop for good, as when the engine's process is killed; what runs fails."""
        self._dead = True

    def check_alive(self) -> None:
        """Raise EngineDead if the engine is dead."""
        if self._dead:
            raise EngineDead("the fake engine is dead", hint="make another")

    async def step(self, call: Call, slot: Slot | None, words: int) -> None:
        """Take the time of one word of a request, after ``words`` of it. Raises EngineDead, EngineError."""
        await asyncio.sleep(self.seconds_per_token)
        self.check_alive()
        self._signs.sign()

    # The port

    @property
    def kind(self) -> EngineKind:
        return EngineKind.FAKE

    @property
    def lora_kernels(self) -> str | None:
        return None

    @property
    def version(self) -> str:
        return "fake 1"

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def max_model_len(self) -> int:
        return self._max_model_len

    @property
    def base_name(self) -> str:
        return self._base_name

    @property
    def control_tokens(self) -> tuple[str, ...]:
        return self._control_tokens

    @property
    def calls_tools(self) -> bool:
        return True

    @property
    def capacity(self) -> int:
        return self._slots.capacity

    @property
    def max_num_seqs(self) -> int:
        return MAX_NUM_SEQS

    async def load(self, slot: Slot) -> None:
        self.check_alive()
        with self._signs.loading():
            await self._slots.load(slot)
        self.check_alive()

    async def unload(self, slot: Slot) -> None:
        self.check_alive()
        with self._signs.loading():
            await self._slots.unload(slot)
        self.check_alive()

    def running(self, slot: Slot) -> int:
        return self._in_flight.running(slot.name)

    async def loaded(self) -> frozenset[int]:
        self.check_alive()
        self._signs.sign()
        return self._slots.ids

    async def score(self, token_ids: Sequence[int], slot: Slot | None) -> tuple[float, ...]:
        ids = list(token_ids)
        self._check_tokens(ids, "to score")
        revision = self._slots.revision(slot)
        if len(ids) < 2:
            return ()
        async for _ in self._run("score", [" "], "length", len(ids), slot):
            pass
        return tuple(_log_probability(a, b, revision) for a, b in pairwise(ids))

    async def answer_scores(
        self, messages: Sequence[dict[str, str]], answer: str, slot: Slot | None
    ) -> tuple[float, ...]:
        ids = [int(_unit(word) * self._vocab_size) for word in words(answer)]
        before = [int(_unit(word) * self._vocab_size) for word in words(_prompt(messages))]
        scores = await self.score([0, *before, *ids], slot)  # 0: so that the first word of all has a score
        return scores[len(scores) - len(ids) :]

    async def chat(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> Completion:
        return await self.complete(_prompt(messages), slot, sampling)

    def stream(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        return self.generate(_prompt(messages), slot, sampling)

    async def chat_tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        self.check_alive()
        return token_ids(_prompt(messages))

    async def continue_tokens(
        self,
        token_ids: Sequence[int],
        slot: Slot | None,
        sampling: Sampling,
        *,
        salt: str = "",
        priority: int = 0,
    ) -> Completion:
        self._check_tokens(token_ids, "to continue")
        if not token_ids:
            raise EngineRefused("there are no tokens to continue", hint="give at least one")
        return await self.complete(text_of(token_ids), slot, sampling)

    async def healthy(self) -> bool:
        return not self._dead

    def progress(self) -> EngineProgress:
        return self._signs.progress(self._in_flight.count)

    def kill(self) -> None:
        self.die()

    def observe(self, observer: Observer) -> None:
        self._in_flight.observers.append(observer)

    def openai_app(self) -> Starlette:
        return self._app

    async def close(self) -> None:
        self.die()

    # For the OpenAI app

    @property
    def names(self) -> dict[str, Slot | None]:
        """What each ``model`` means: the base model's name and those of the loaded slots."""
        return {self._base_name: None, **self._slots.by_name}

    async def complete(self, prompt: str, slot: Slot | None, sampling: Sampling, *, n: int = 1) -> Completion:
        """One of n equal answers, and what they all cost. Raises EngineError, EngineDead."""
        with collected_facts() as facts:
            produced = [delta.text async for delta in self.generate(prompt, slot, sampling, n=n)]
        text = "".join(produced[: len(produced) // n])
        return Completion(text, facts[0], token_ids(text))

    async def generate(
        self, prompt: str, slot: Slot | None, sampling: Sampling, *, n: int = 1
    ) -> AsyncGenerator[Delta, None]:
        """The words of n equal answers, one after the other; one request. Raises EngineError, EngineDead."""
        self.check_alive()
        text = answer(prompt, sampling.grammar, self._slots.revision(slot), self._plan)
        for stop in sampling.stop:
            text = text.split(stop)[0]
        produced = words(text)
        reason = "length" if len(produced) > sampling.max_tokens else "stop"
        produced = produced[: sampling.max_tokens] * n
        run = self._run("stream", produced, reason, len(prompt.split()), slot, alone=n == 1)
        async with aclosing(run) as deltas:
            async for delta in deltas:
                yield delta

    def _check_tokens(self, ids: Sequence[int], what: str) -> None:
        """Raise EngineRefused for tokens that the model does not have or cannot hold; EngineDead."""
        self.check_alive()
        if bad := [i for i in ids if not 0 <= i < self._vocab_size]:
            raise EngineRefused(f"token id {bad[0]} is out of vocabulary (0 to {self._vocab_size - 1})")
        if len(ids) >= self._max_model_len:
            raise ContextTooLong(
                f"{len(ids)} tokens {what} and one to generate exceed max_model_len {self._max_model_len}"
            )

    async def _run(
        self,
        call: Call,
        produced: list[str],
        reason: str,
        prompt_tokens: int,
        slot: Slot | None,
        *,
        alone: bool = True,
    ) -> AsyncGenerator[Delta, None]:
        """Yield the words and report the request once, however it ends; ``alone``: they are one answer."""
        stay = self._in_flight.begin(slot.name if slot else None)
        first = 0.0
        facts = RequestFacts(
            slot.name if slot else None, "aborted", prompt_tokens, 0, 0, 0.0, None, 0.0, None
        )
        try:
            for count, word in enumerate(produced, start=1):
                await self.step(call, slot, count - 1)
                self._slots.check_step(slot)
                first = first or stay.seconds
                facts = replace(
                    facts,
                    output_tokens=count,
                    first_token_seconds=first,
                    decode_seconds=stay.seconds - first if alone else None,
                )
                if count < len(produced):
                    yield Delta(word)
            # Before the last word is handed out: a consumer need not come back after it.
            facts = stay.end(replace(facts, outcome="ok", finish_reason=reason))
            yield Delta(produced[-1] if produced else "", facts)
        except EngineDead:
            facts = replace(facts, outcome="error")
            raise
        finally:
            stay.end(facts)


def _prompt(messages: Sequence[dict[str, str]]) -> str:
    return "\n".join(message["content"] for message in messages)


def _log_probability(previous: int, token: int, revision: str) -> float:
    """Between -14 and 0 nats; an adapter moves it by up to 0.5."""
    base = -14.0 * _unit(f"{previous},{token}")
    return min(base + _unit(f"{previous},{token},{revision}") - 0.5, 0.0) if revision else base


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48
