"""A deterministic engine without a model, for tests: ours and clients'. Needs neither torch nor vLLM."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from s3lora_serve.engine.fake_faults import Faults
from s3lora_serve.engine.fake_openai import make_app
from s3lora_serve.engine.fake_slots import FakeSlots
from s3lora_serve.engine.fake_text import PlanWriter, answer, words, write_plan
from s3lora_serve.engine.port import Completion, Observer, RequestFacts, Sampling, Slot
from s3lora_serve.errors import EngineDead, EngineRefused

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.applications import Starlette

    from s3lora_serve.engine.fake_faults import Call

log = logging.getLogger(__name__)


class FakeEngine(Faults):
    """Keeps the promises of ``engine/port.py`` in memory.

    Log-probabilities and answers are functions of the tokens and of the adapter's weights file: two
    adapters differ, the same one never does, and one whose lora_B tensors are all zero acts like the base
    model. ``plan`` writes the plans; ``seconds_per_token`` makes requests take time. Faults are ordered with
    the methods of its base class; ``engine/fake_starts.py`` makes one after the other.
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
    ) -> None:
        super().__init__()
        self._base_name = base_name
        self.seconds_per_token = seconds_per_token
        self._vocab_size = vocab_size
        self._max_model_len = max_model_len
        self._plan = plan
        self._slots = FakeSlots(self, base_name, max_loras, max_lora_rank)
        self._observers: list[Observer] = []
        self._app = make_app(self)

    # Beside the port

    @property
    def violations(self) -> list[str]:
        """Each time a caller broke one of the port's laws, in words; empty for a runtime that is right."""
        return self._slots.violations

    @property
    def alive(self) -> bool:
        """Whether it has neither died nor been closed."""
        return not self._dead

    def forget(self, slot: Slot) -> None:
        """Lose a loaded slot: it is listed no more and cannot be used. KeyError if it is not loaded."""
        self._slots.forget(slot)

    def invent(self, slot_id: int) -> None:
        """List an id that nobody loaded; ``unload`` removes it."""
        self._slots.invent(slot_id)

    # The port

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
    def capacity(self) -> int:
        return self._slots.capacity

    async def load(self, slot: Slot) -> None:
        self.check_alive()
        await self._slots.load(slot)

    async def unload(self, slot: Slot) -> None:
        self.check_alive()
        await self._slots.unload(slot)

    def running(self, slot: Slot) -> int:
        return self._slots.running[slot.name]

    async def loaded(self) -> frozenset[int]:
        self.check_alive()
        return self._slots.ids

    async def score(self, token_ids: Sequence[int], slot: Slot | None) -> tuple[float, ...]:
        self.check_alive()
        ids = list(token_ids)
        if bad := [i for i in ids if not 0 <= i < self._vocab_size]:
            raise EngineRefused(f"token id {bad[0]} is out of vocabulary (0 to {self._vocab_size - 1})")
        if len(ids) >= self._max_model_len:
            raise EngineRefused(
                f"{len(ids)} tokens to score and one to generate exceed max_model_len {self._max_model_len}"
            )
        revision = self._slots.revision(slot)
        if len(ids) < 2:
            return ()
        async for _ in self._run([" "], "length", len(ids), slot, None, call="score"):
            pass
        return tuple(_log_probability(a, b, revision) for a, b in pairwise(ids))

    async def chat(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> Completion:
        facts: list[RequestFacts] = []
        prompt = "\n".join(message["content"] for message in messages)
        text = "".join([word async for word in self.stream(prompt, slot, sampling, also=facts.append)])
        return Completion(text=text, facts=facts[0])

    async def healthy(self) -> bool:
        return not self._dead

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def openai_app(self) -> Starlette:
        return self._app

    async def close(self) -> None:
        self.die()

    # For the OpenAI app

    @property
    def names(self) -> dict[str, Slot | None]:
        """What each ``model`` means: the base model's name and those of the loaded slots."""
        return {self._base_name: None, **self._slots.by_name}

    def stream(
        self,
        prompt: str,
        slot: Slot | None,
        sampling: Sampling,
        *,
        n: int = 1,
        also: Observer | None = None,
    ) -> AsyncGenerator[str, None]:
        """The words of n equal answers, one after the other; one request. Raises EngineError, EngineDead."""
        self.check_alive()
        text = answer(prompt, sampling.grammar, self._slots.revision(slot), self._plan)
        for stop in sampling.stop:
            text = text.split(stop)[0]
        produced = words(text)
        reason = "length" if len(produced) > sampling.max_tokens else "stop"
        return self._run(produced[: sampling.max_tokens] * n, reason, len(prompt.split()), slot, also)

    async def _run(
        self,
        produced: list[str],
        reason: str,
        prompt_tokens: int,
        slot: Slot | None,
        also: Observer | None,
        call: Call = "stream",
    ) -> AsyncGenerator[str, None]:
        """Yield the words and report the request once, however it ends."""
        self._slots.revision(slot)  # again: it may have been unloaded since the caller looked it up
        started = time.perf_counter()
        name = slot.name if slot else None
        facts = RequestFacts(name, "aborted", prompt_tokens, 0, 0, 0.0, None, 0.0, None)
        running = self._slots.running
        running[name] += 1
        try:
            await self.pause_request(slot)
            for count, word in enumerate(produced, start=1):
                await asyncio.sleep(self.seconds_per_token)
                self.strike(call, slot, count - 1)
                self._slots.check_step(slot)
                first = facts.first_token_seconds or time.perf_counter() - started
                facts = replace(facts, output_tokens=count, first_token_seconds=first)
                if count == len(produced):  # now: a consumer need not come back after the last word
                    facts = replace(facts, outcome="ok", finish_reason=reason)
                yield word
            facts = replace(facts, outcome="ok", finish_reason=reason)
        except EngineDead:
            facts = replace(facts, outcome="error")
            raise
        finally:
            running[name] -= 1
            self._report(replace(facts, total_seconds=time.perf_counter() - started), also)

    def _report(self, facts: RequestFacts, also: Observer | None) -> None:
        for observer in (*self._observers, *((also,) if also else ())):
            try:
                observer(facts)
            except Exception:  # as the port says
                log.exception("observer failed on %s", facts)


def _log_probability(previous: int, token: int, revision: str) -> float:
    """Between -14 and 0 nats; an adapter moves it by up to 0.5."""
    base = -14.0 * _unit(f"{previous},{token}")
    return min(base + _unit(f"{previous},{token},{revision}") - 0.5, 0.0) if revision else base


def _unit(text: str) -> float:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48
