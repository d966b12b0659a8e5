"""An adapter on a running engine, pruned as admission would publish it."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from typing import TYPE_CHECKING, Self, TypeVar

from s3lora_serve.adapters.peft.peft_format import write_peft
from s3lora_serve.engine.port import Sampling, Slot
from s3lora_serve.errors import EngineError, EngineRefused
from s3lora_serve.judging.outcomes import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from s3lora_serve.adapters.peft.peft_format import PeftAdapter
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.judging.suite import Messages

T = TypeVar("T")
U = TypeVar("U")

CONCURRENT = 32  # requests under way; the engine batches them


class EngineSubject:
    """Asks an adapter through one engine slot; a ``Subject``, and a context that leaves the slot free again.

    The slot holds what was asked last, so that all questions about one set of modules load it once. An
    adapter of which nothing is kept is the base model. ``folder`` is empty and this subject's own; ``ids``
    gives slot ids that the engine never saw, and is shared by all subjects of one engine. ``told`` is called
    after each answered question.
    """

    def __init__(
        self,
        engine: Engine,
        adapter: PeftAdapter,
        folder: Path,
        *,
        name: str = "subject",
        ids: Iterator[int] | None = None,
        concurrent: int = CONCURRENT,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._adapter = adapter
        self._folder = folder
        self._name = name
        self._ids = ids or itertools.count(1)
        self._concurrent = concurrent
        self._told = told
        self._kept: frozenset[str] = frozenset()
        self._slot: Slot | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            await self._free()
        except EngineError:
            if kind is None:  # else what ended the block is what its caller must hear of
                raise

    async def answers(
        self, chats: Sequence[Messages], dropped: Collection[str], max_tokens: int
    ) -> list[Answer]:
        """One greedy answer to each chat, in order. Raises EngineRefused naming the chat, EngineError."""
        slot = await self._slot_without(dropped)
        sampling = Sampling(max_tokens=max_tokens)

        async def ask(messages: Messages) -> Answer:
            made = await self._engine.chat(messages, slot, sampling)
            facts = made.facts
            return Answer(made.text, facts.output_tokens, facts.finish_reason == "stop", facts.engine_seconds)

        return await self._each(ask, chats, lambda chat: chat)

    async def losses(self, examples: Sequence[tuple[Messages, str]], dropped: Collection[str]) -> list[float]:
        """Mean negative log-likelihood (nats a token) of each reference answer. Raises as ``answers``."""
        slot = await self._slot_without(dropped)

        async def loss(example: tuple[Messages, str]) -> float:
            scores = await self._engine.answer_scores(*example, slot)
            return -sum(scores) / max(len(scores), 1)

        return await self._each(loss, examples, lambda example: example[0])

    async def _each(
        self, ask: Callable[[T], Awaitable[U]], items: Sequence[T], chat_of: Callable[[T], Messages]
    ) -> list[U]:
        """All results in order, at most ``concurrent`` at a time; the first failure ends the others."""
        free = asyncio.Semaphore(self._concurrent)

        async def one(number: int, item: T) -> U:
            async with free:
                try:
                    found = await ask(item)
                except EngineRefused as error:
                    opening = " ".join(chat_of(item)[-1]["content"].split())[:60]
                    raise EngineRefused(
                        f"question {number} ({opening!r} ...): {error.message}", hint=error.hint
                    ) from error
                self._told()
                return found

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(n, item)) for n, item in enumerate(items, start=1)]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _slot_without(self, dropped: Collection[str]) -> Slot | None:
        """The slot of the adapter without these modules; None, the base model, if none is kept."""
        if unknown := set(dropped) - self._adapter.modules.keys():
            raise KeyError(f"no such modules in the adapter: {sorted(unknown)}")
        kept = frozenset(self._adapter.modules.keys() - set(dropped))
        if kept == self._kept:
            return self._slot
        await self._free()
        if not kept:
            return None
        number = next(self._ids)
        slot = Slot(f"{self._name}@{number}", number, self._folder / str(number))
        slot.path.mkdir(parents=True)
        await asyncio.to_thread(write_peft, slot.path, self._adapter, frozenset(dropped))
        try:
            await self._engine.load(slot)
        except BaseException:
            shutil.rmtree(slot.path, ignore_errors=True)
            raise
        self._slot, self._kept = slot, kept
        return slot

    async def _free(self) -> None:
        slot, self._slot, self._kept = self._slot, None, frozenset()
        if slot is not None:
            try:
                await self._engine.unload(slot)
            finally:
                # Only now: an engine may read a slot's files again for as long as it is loaded.
                shutil.rmtree(slot.path, ignore_errors=True)
