"""The one place that sees every request of vLLM's engine begin and end, from whichever route it came."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.port import Observer, Outcome, RequestFacts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

log = logging.getLogger(__name__)

# vLLM's finish reasons that are no success.
_OUTCOMES: dict[str | None, Outcome] = {"abort": "aborted", "error": "error"}


class RequestTap:
    """Stands in for ``AsyncLLM.generate`` and reports the facts of each request once.

    Every generating route of vLLM's OpenAI app calls ``engine_client.generate``, and so do we; a wrapped
    method is therefore enough to see them all. With n > 1 that is still one call, so n answers make one
    record.
    """

    def __init__(self, generate: Callable[..., AsyncGenerator[Any, None]]) -> None:
        self._generate = generate
        self._observers: list[Observer] = []

    def add(self, observer: Observer) -> None:
        """Call ``observer`` for each request that ends from now on."""
        self._observers.append(observer)

    async def generate(
        self,
        prompt: Any,
        sampling_params: Any,
        request_id: str,
        *,
        also: Observer | None = None,
        **options: Any,
    ) -> AsyncGenerator[Any, None]:
        """As ``AsyncLLM.generate``; ``also`` is told of this request only."""
        tally = _Tally(prompt, sampling_params, options.get("lora_request"))
        outcome: Outcome = "aborted"  # unless something else ends it: the consumer left or was cancelled
        try:
            async with aclosing(self._generate(prompt, sampling_params, request_id, **options)) as outputs:
                async for output in outputs:
                    tally.add(output)
                    if output.finished:  # now: a consumer need not come back after the last output
                        outcome = _OUTCOMES.get(tally.finish_reason, "ok")
                        self._report(tally, outcome, also)
                    yield output
            # Streamed input ends without a finished output.
            outcome = _OUTCOMES.get(tally.finish_reason, "ok")
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:
            outcome = "error"
            raise
        finally:
            self._report(tally, outcome, also)

    def _report(self, tally: _Tally, outcome: Outcome, also: Observer | None) -> None:
        if tally.reported:
            return
        tally.reported = True
        facts = tally.facts(outcome)
        for observer in (*self._observers, *((also,) if also else ())):
            try:
                observer(facts)
            except Exception:  # an observer's defect must not fail the request
                log.exception("observer failed on %s", facts)


class _Tally:
    """What is known of one request so far."""

    def __init__(self, prompt: Any, sampling_params: Any, lora_request: Any) -> None:
        self.started = time.perf_counter()
        self.reported = False
        self.finish_reason: str | None = None
        self._slot: str | None = lora_request.lora_name if lora_request is not None else None
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
            self.finish_reason = completion.finish_reason or self.finish_reason
        if output.num_cached_tokens is not None:
            self._cached_tokens = output.num_cached_tokens
        self._stats = output.metrics or self._stats

    def facts(self, outcome: Outcome) -> RequestFacts:
        queued, scheduled, first = (
            getattr(self._stats, name, 0.0) for name in ("queued_ts", "scheduled_ts", "first_token_ts")
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
            total_seconds=time.perf_counter() - self.started,
            finish_reason=self.finish_reason,
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
