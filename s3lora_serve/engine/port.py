"""What the runtime needs from an inference engine, and what a backend must promise."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.applications import Starlette

    from s3lora_serve.engine.signs_of_life import EngineProgress

Outcome = Literal["ok", "aborted", "error"]
Purpose = Literal["answer", "judged", "guard", "exam"]


class EngineKind(StrEnum):
    """The kind of an engine: every answer names it, and two kinds never share a store or a state."""

    VLLM = "vllm"
    FAKE = "fake"  # made-up answers, for looking at routes, pages and clients, and for tests


@dataclass(frozen=True)
class Slot:
    """One adapter revision as the engine knows it.

    ``name`` is unique per revision (``alias@sha12``) and what an OpenAI request's ``model`` says to use it;
    ``id`` is from 1 up and never reused; ``path`` is the absolute path of a folder that does not change while
    the slot exists: vLLM keys its prefix cache by name and path and re-reads ``path`` when a slot was evicted
    (v1/core/kv_cache_utils.py, lora/worker_manager.py).
    """

    name: str
    id: int
    path: Path


@dataclass(frozen=True)
class Sampling:
    """How to decode: ``temperature`` 0 is greedy; ``grammar`` is an EBNF text that constrains the output.

    ``max_tokens`` is cut to what fits ``max_model_len``; ``stop`` strings end the output and are not part
    of it.
    """

    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    grammar: str | None = None


@dataclass(frozen=True)
class RequestFacts:
    """What one finished engine request cost. Times are seconds; a figure that was not measured is None.

    A request for n answers is one request: its prompt counts once, its output tokens are those of all
    answers, and the queue and first-token times are those of one of them.
    """

    slot: str | None  # Slot.name, None for the base model
    outcome: Outcome  # aborted: the client left or the engine was told to stop; error: the engine failed
    prompt_tokens: int
    cached_tokens: int | None  # prompt tokens that came from the prefix cache
    output_tokens: int  # that the consumer was handed: 0 when an unstreamed request was aborted
    queue_seconds: float | None  # from the engine's queue to its first step
    first_token_seconds: float | None  # from the engine's queue to the first token, so at least queue_seconds
    total_seconds: float  # from the call to its end
    finish_reason: str | None  # the last answer's: stop, length, abort, error
    # From the first token to the last one; None for several answers, whose tokens cannot be told apart.
    decode_seconds: float | None = None
    engine_seconds: float | None = None  # its share of total_seconds: engine/shared_time.py
    # judged: an answer that waits for a verdict (request_facts.held_facts); guard: what that takes; exam:
    # whether a revision may serve.
    purpose: Purpose = "answer"


@dataclass(frozen=True)
class Completion:
    """The text of one finished generation, what it cost, and its tokens, the one that ended it among them."""

    text: str
    facts: RequestFacts
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Delta:
    """A piece of an answer as it is generated. ``facts`` come with the last one, whose text may be empty."""

    text: str
    facts: RequestFacts | None = None


Observer = Callable[[RequestFacts], None]


class Engine(Protocol):
    """A multi-LoRA inference engine.

    Promises that every backend keeps, and that ``tests/engine/contract.py`` checks on each:

    * ``load`` either makes the slot usable or raises ``SlotLoadError`` and leaves every other slot serving;
      it never makes room by dropping another slot. Loading a loaded slot again is a no-op.
    * The id of a failed load is out of use for good: another ``load`` with it raises ``SlotLoadError``.
    * ``loaded`` reads the engine's own state, never what was asked of it.
    * A loaded slot answers OpenAI requests with ``model=slot.name``; no other slot can be asked.
    * ``unload`` of a slot that is not loaded is a no-op; of one that requests run on, an ``EngineError``
      that changes nothing. From the moment at which it is let through, no request gets to the slot.
    * Only loaded slots can be used: ``score``, ``answer_scores``, ``chat``, ``stream`` and
      ``continue_tokens`` raise ``EngineError`` for any other.
    * Leaving a request early, by cancellation or by closing the stream, ends it in the engine, too.
    * ``engine/request_facts.py`` hears of a request before its last output is handed out, whatever its route.
    * A request that names no slot gets the base model, whatever else shares its batch.
    * The same tokens under the same slot score the same, up to the noise of the engine's arithmetic.
    * ``progress`` shows another number of signs after each step and each answered call of ``loaded``,
      ``load`` and ``unload``; an engine that hangs shows none.
    * Once the engine is dead, ``healthy`` is False and every call that needs it raises ``EngineDead``, the
      calls and requests under way among them. ``close`` and ``kill`` are deaths, too.
    * Nothing but this package's errors (and cancellation) leaves a method.
    """

    @property
    def kind(self) -> EngineKind:
        """What it is; always the same."""
        ...

    @property
    def version(self) -> str:
        """Engine name and version, e.g. ``vllm 0.32.0``."""
        ...

    @property
    def lora_kernels(self) -> str | None:
        """What computes LoRA and why, in one line; None where there is no choice."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids the base model knows."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus output, in tokens."""
        ...

    @property
    def base_name(self) -> str:
        """What an OpenAI request's ``model`` says to use the base model. No slot may have this name."""
        ...

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Texts that the base model's tokenizer turns into control tokens, wherever they stand."""
        ...

    @property
    def calls_tools(self) -> bool:
        """Whether it reads calls of tools out of what the model writes, and makes it write them."""
        ...

    @property
    def capacity(self) -> int:
        """Number of slots that can be loaded at once."""
        ...

    @property
    def max_num_seqs(self) -> int:
        """How many requests it works on at once; more wait."""
        ...

    async def load(self, slot: Slot) -> None:
        """Make the slot usable, by name too; refuses one without tensors. SlotLoadError, EngineDead."""
        ...

    async def unload(self, slot: Slot) -> None:
        """Free the slot. Raises EngineError while requests run on it (changing nothing), EngineDead.

        After a failure or a cancellation in the middle it may be called again.
        """
        ...

    def running(self, slot: Slot) -> int:
        """Number of engine requests under this slot that have begun and not ended. Never raises."""
        ...

    async def loaded(self) -> frozenset[int]:
        """Ids of the slots that the engine itself reports."""
        ...

    async def score(self, token_ids: Sequence[int], slot: Slot | None) -> tuple[float, ...]:
        """Log-probability (nats) of each prompt token after the first, under the slot or the base model.

        Empty for fewer than two tokens. Needs no tokenizer. Raises EngineRefused for tokens that the model
        does not have or cannot hold, EngineError, EngineDead.
        """
        ...

    async def answer_scores(
        self, messages: Sequence[dict[str, str]], answer: str, slot: Slot | None
    ) -> tuple[float, ...]:
        """Log-probability (nats) of each token of ``answer``, were it the reply to ``messages``.

        The tokens are those of the text by itself, no end token among them; empty for an empty text. Raises
        EngineRefused for messages that it cannot take or what exceeds ``max_model_len``, EngineError,
        EngineDead.
        """
        ...

    async def chat(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> Completion:
        """One answer, under the base model's chat template.

        Raises EngineRefused for messages, sampling or a grammar it cannot take, EngineError, EngineDead.
        """
        ...

    def stream(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """``chat`` piece by piece; the pieces add up to its text. Iterate in ``contextlib.aclosing``.

        Nothing is asked of the engine before the first piece is; closing it aborts the request at once.
        Raises what ``chat`` raises, at any piece.
        """
        ...

    async def chat_tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """The exact tokens that ``chat`` puts before its answer: all of them, however many.

        Asks nothing of the model. Raises EngineRefused for messages that the base model's chat template does
        not take, or a base model without one; EngineDead.
        """
        ...

    async def continue_tokens(
        self,
        token_ids: Sequence[int],
        slot: Slot | None,
        sampling: Sampling,
        *,
        salt: str = "",
        priority: int = 0,
    ) -> Completion:
        """What follows these tokens, under the slot or the base model.

        Requests whose ``salt`` differs share nothing in the prefix cache, so that none learns from its time
        what the others asked. A lower ``priority`` goes before others on engines that schedule by it. Raises
        EngineRefused for no tokens, for tokens that the model does not have or cannot hold with one more, or
        for sampling that it cannot take; EngineError, EngineDead.
        """
        ...

    async def healthy(self) -> bool:
        """False once the engine can no longer serve; never raises."""
        ...

    def progress(self) -> EngineProgress:
        """Whether it gets on: signs of life so far, requests in it, what holds it up. Never raises."""
        ...

    def kill(self) -> None:
        """End the engine at once, even if it hangs; ``close`` frees what is left. Never raises.

        For one that does not answer: its processes are asked for nothing, requests and calls fail.
        """
        ...

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` once for each engine request that ends, from whichever route it came.

        Its calls come from the event loop and must not block; what it raises is logged and otherwise ignored.
        """
        ...

    def openai_app(self) -> Starlette:
        """The OpenAI-compatible ASGI app, with every route the backend brings; the server filters them."""
        ...

    async def close(self) -> None:
        """Stop the engine and free what it holds."""
        ...
