"""The one place that every request of vLLM's engine passes, from any route: gate, count and report."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.in_flight import InFlight
from s3lora_serve.engine.port import Observer, Outcome, RequestFacts
from s3lora_serve.engine.signs_of_life import SignsOfLife
from s3lora_serve.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

# vLLM's finish reasons that are no success.
_OUTCOMES: dict[str | None, Outcome] = {"abort": "aborted", "error": "error"}


class RequestTap:
    """Stands in for ``AsyncLLM.generate`` and reports the facts of each request once.

    Every generating route of vLLM's OpenAI app calls ``engine_client.generate``, and so do we; a wrapped
    method is therefore enough to see them all. With n > 1 that is still one call, so n answers make one
    record.

    It is also the gate to the slots. A route looks its adapter up some steps before it generates; if the slot
    was unloaded in between, vLLM would load it from its path again, in the middle of a step, for all requests
    (lora/worker_manager.py). So a request whose adapter is not admitted here is refused.
    """

    def __init__(
        self, generate: Callable[..., AsyncGenerator[Any, None]], signs: SignsOfLife | None = None
    ) -> None:
        """``signs`` are told of each output, and of grammars that may have to be compiled."""
        self._generate = generate
        self._signs = signs or SignsOfLife()
        self._in_flight = InFlight()
        self._admitted: dict[str, int] = {}  # adapter name → its id

    def admit(self, lora_request: Any) -> None:
        """Let requests for this adapter through from now on."""
        self._admitted[lora_request.lora_name] = lora_request.lora_int_id

    def dismiss(self, name: str) -> None:
        """Let no request for this adapter through any more. Raises EngineError while requests run on it."""
        if count := self.running(name):
            raise EngineError(
                f"slot {name} has {count} running request{'s' if count > 1 else ''}",
                hint="unload it once they have ended",
            )
        self._admitted.pop(name, None)

    def running(self, name: str) -> int:
        """Number of requests for this adapter that have begun and not ended."""
        return self._in_flight.running(name)

    @property
    def count(self) -> int:
        """Number of all requests that have begun and not ended."""
        return self._in_flight.count

    def add(self, observer: Observer) -> None:
        """Call ``observer`` for each request that ends from now on."""
        self._in_flight.observers.append(observer)

    async def generate(
        self,
        prompt: Any,
        sampling_params: Any,
        request_id: str,
        *,
        also: Observer | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        """As ``AsyncLLM.generate``; ``also`` is told of this request only.

        Raises EngineError for an adapter that is not admitted.
        """
        slot = self._let_in(options.get("lora_request"))
        tally = _Tally(prompt, sampling_params, slot)
        stay = self._in_flight.begin(slot, also)  # no await between the check and the count
        outcome: Outcome = "aborted"  # unless something else ends it: the consumer left or was cancelled
        grammar = getattr(sampling_params, "structured_outputs", None)
        with self._signs.compiling(grammar) as living:
            try:
                async with aclosing(
                    self._generate(prompt, sampling_params, request_id, **options)
                ) as outputs:
                    async for output in outputs:
                        living()
                        tally.add(output)
                        if output.finished:  # now: a consumer need not come back after the last output
                            outcome = tally.outcome
                            stay.end(tally.facts(outcome))
                        yield output
                outcome = tally.outcome  # streamed input ends without a finished output
            except (asyncio.CancelledError, GeneratorExit):
                raise
            except BaseException:
                outcome = "error"
                raise
            finally:
                stay.end(tally.facts(outcome))

    def _let_in(self, lora_request: Any | None) -> str | None:
        """The adapter's name, if it may be used."""
        if lora_request is None:
            return None
        name = str(lora_request.lora_name)
        if self._admitted.get(name) != lora_request.lora_int_id:
            raise EngineError(
                f"slot {name} (id {lora_request.lora_int_id}) is not loaded",
                hint="it was unloaded before the request could begin: try again",
            )
        return name


class _Tally:
    """What is known of one request so far."""

    def __init__(self, prompt: Any, sampling_params: Any, slot: str | None) -> None:
        self._slot = slot
        self._finish_reason: str | None = None
        # DELTA outputs carry what is new, CUMULATIVE and FINAL_ONLY ones everything so far.
        self._delta = getattr(getattr(sampling_params, "output_kind", None), "name", "") == "DELTA"
        self._prompt_tokens = _prompt_length(prompt)
        self._output_tokens: dict[int, int] = {}
        self._cached_tokens: int | None = None
        self._stats: Any = None

    def add(self, output: Any) -> None:
        if output.prompt_token_ids is not None:
            self._prompt_tokens = len(output.prompt_token_ids)
        for completion in output.outputs:
            seen = self._output_tokens.get(completion.index, 0) if self._delta else 0
            self._output_tokens[completion.index] = seen + len(completion.token_ids)
            self._finish_reason = completion.finish_reason or self._finish_reason
        if output.num_cached_tokens is not None:
            self._cached_tokens = output.num_cached_tokens
        self._stats = output.metrics or self._stats

    @property
    def outcome(self) -> Outcome:
        """What came of a request that vLLM ended by itself."""
        return _OUTCOMES.get(self._finish_reason, "ok")

    def facts(self, outcome: Outcome) -> RequestFacts:
        """All but what the request's stay in the engine knows better: its share and its whole time."""
        queued, scheduled, first, last = (
            getattr(self._stats, f"{name}_ts", 0.0)
            for name in ("queued", "scheduled", "first_token", "last_token")
        )
        return RequestFacts(
            slot=self._slot,
            outcome=outcome,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            output_tokens=sum(self._output_tokens.values()),
            # Only *_ts, which share the engine's monotonic clock; arrival_time is wall clock.
            queue_seconds=_between(queued, scheduled),
            first_token_seconds=_between(queued, first),
            total_seconds=0.0,
            finish_reason=self._finish_reason,
            decode_seconds=_between(first, last) if len(self._output_tokens) == 1 else None,
        )


def _prompt_length(prompt: Any) -> int:
    ids = (
        prompt.get("prompt_token_ids")
        if isinstance(prompt, dict)
        else getattr(prompt, "prompt_token_ids", None)
    )
    return len(ids) if ids is not None else 0


def _between(earlier: float, later: float) -> float | None:
    return later - earlier if earlier and later >= earlier else None
