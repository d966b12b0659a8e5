"""What the runtime needs from an inference engine, and what a backend must promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from starlette.applications import Starlette

Outcome = Literal["ok", "aborted", "error"]


@dataclass(frozen=True)
class Slot:
    """One adapter revision as the engine knows it.

    ``name`` is unique per revision (``alias@sha12``), ``id`` is never reused and ``path`` is immutable while the slot
    exists: vLLM keys its prefix cache by name and path and re-reads ``path`` when a slot was evicted
    (v1/core/kv_cache_utils.py, lora/worker_manager.py).
    """

    name: str
    id: int
    path: Path


@dataclass(frozen=True)
class Sampling:
    """How to decode: ``temperature`` 0 is greedy; ``grammar`` is a GBNF/EBNF text that constrains the output."""

    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    grammar: str | None = None


@dataclass(frozen=True)
class RequestFacts:
    """What one finished engine request cost. Times are seconds; a figure that was not measured is None."""

    slot: str | None  # Slot.name, None for the base model
    outcome: Outcome
    prompt_tokens: int
    cached_tokens: int | None
    output_tokens: int
    queue_seconds: float | None
    first_token_seconds: float | None
    total_seconds: float
    finish_reason: str | None


@dataclass(frozen=True)
class Completion:
    """The text of one finished generation and what it cost."""

    text: str
    facts: RequestFacts


Observer = Callable[[RequestFacts], None]


class Engine(Protocol):
    """A multi-LoRA inference engine.

    Promises that every backend keeps, and that ``tests/engine/contract.py`` checks on each:

    * ``load`` either makes the slot usable or raises ``SlotLoadError`` and leaves every other slot serving.
    * A failed id is never usable afterwards; callers never retry with the same id (vllm.md law 6).
    * ``loaded`` reads the engine's own state, never what was asked of it.
    * ``unload`` of a slot that is not loaded is a no-op.
    * A request that names no slot gets the base model, whatever else shares its batch.
    """

    @property
    def version(self) -> str:
        """Engine name and version, e.g. ``vllm 0.32.0``."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of token ids the base model knows."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus output, in tokens."""
        ...

    async def load(self, slot: Slot) -> None:
        """Make the slot's weights usable. Raises SlotLoadError, EngineDead."""
        ...

    async def unload(self, slot: Slot) -> None:
        """Free the slot. The caller guarantees that no request uses it."""
        ...

    async def loaded(self) -> frozenset[int]:
        """Ids of the slots that the engine itself reports."""
        ...

    async def score(self, token_ids: Sequence[int], slot: Slot | None) -> tuple[float, ...]:
        """Log-probability (nats) of each prompt token after the first, under the slot or the base model."""
        ...

    async def chat(self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling) -> Completion:
        """Render with the base model's chat template and generate one answer."""
        ...

    async def healthy(self) -> bool:
        """False once the engine can no longer serve; never raises."""
        ...

    def observe(self, observer: Observer) -> None:
        """Call ``observer`` once for each engine request that ends, from whichever route it came."""
        ...

    def route(self, alias: str, slot: Slot | None) -> None:
        """Let OpenAI requests with ``model=alias`` use this slot (None: the base model). One assignment, no await."""
        ...

    def unroute(self, alias: str) -> None:
        """Forget the alias; requests that started keep their slot."""
        ...

    def openai_app(self) -> Starlette:
        """The OpenAI-compatible ASGI application, with every route the backend brings; the server filters them."""
        ...

    async def close(self) -> None:
        """Stop the engine and free what it holds."""
        ...
