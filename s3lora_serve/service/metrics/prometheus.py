"""Prometheus metrics, in a separate registry: prefix ``s3lora_``, labels planner and outcome."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from s3lora_serve.service.metrics.exam_metrics import ExamMetrics
from s3lora_serve.service.metrics.fleet_metrics import LiveMetrics, LiveSample
from s3lora_serve.service.metrics.guard_metrics import GuardMetrics
from s3lora_serve.service.metrics.planner_metrics import PlannerCollector, PlannerSample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

OUTCOMES = ("ok", "aborted", "error")
LISTENERS = ("clients", "admin")

# Seconds. Wide enough for a small model on CPU and a large one on a GPU.
_DURATION = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_WAIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Facts(Protocol):
    """What is counted of one finished engine request; ``engine.port.RequestFacts`` has it."""

    @property
    def outcome(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def queue_seconds(self) -> float | None: ...
    @property
    def first_token_seconds(self) -> float | None: ...
    @property
    def total_seconds(self) -> float: ...


class Metrics:
    """Counts engine requests by planner and HTTP requests by route.

    ``planners`` and ``live`` are asked at each scrape, so what is shown is what is so then.
    """

    def __init__(
        self,
        planners: Callable[[], Iterable[PlannerSample]] = tuple,
        live: Callable[[], LiveSample] = LiveSample,
    ) -> None:
        self.registry = CollectorRegistry()
        self.live = LiveMetrics(self.registry, live)
        self.guard = GuardMetrics(self.registry)
        self.exam = ExamMetrics(self.registry)
        counter = partial(Counter, labelnames=("planner",), registry=self.registry)
        histogram = partial(Histogram, labelnames=("planner",), registry=self.registry)
        self._requests = Counter(
            "s3lora_requests", "Finished engine requests.", ("planner", "outcome"), registry=self.registry
        )
        self._http = Counter(
            "s3lora_http_requests", "HTTP responses.", ("route", "planner", "status"), registry=self.registry
        )
        self._credentials = Counter(
            "s3lora_refused_credentials",
            "Requests without a valid key or token.",
            ("listener",),
            registry=self.registry,
        )
        for listener in LISTENERS:
            self._credentials.labels(listener)
        self._duration = histogram(
            "s3lora_request_duration_seconds",
            "From arrival in the engine to the last token.",
            buckets=_DURATION,
        )
        self._first_token = histogram(
            "s3lora_time_to_first_token_seconds",
            "From arrival in the engine to the first token.",
            buckets=_WAIT,
        )
        self._queue = histogram(
            "s3lora_queue_seconds",
            "From arrival in the engine to the first step that worked on the request.",
            buckets=_WAIT,
        )
        self._prompt = counter("s3lora_prompt_tokens", "Prompt tokens.")
        self._cached = counter("s3lora_cached_prompt_tokens", "Prompt tokens that the prefix cache held.")
        self._output = counter("s3lora_output_tokens", "Generated tokens.")
        self.registry.register(PlannerCollector(planners))

    def declare(self, name: str) -> None:
        """Show a planner (or the base model) with zeros before its first request.

        Otherwise an idle planner is missing, and a rate over it has no first point (vllm#45325).
        """
        for outcome in OUTCOMES:
            self._requests.labels(name, outcome)
        tokens = (self._prompt, self._cached, self._output)
        for metric in (self._duration, self._first_token, self._queue, *tokens):
            metric.labels(name)

    def observe(self, name: str, facts: Facts) -> None:
        """Count one finished engine request under the planner's (or the base model's) name."""
        self._requests.labels(name, facts.outcome).inc()
        self._prompt.labels(name).inc(facts.prompt_tokens)
        self._output.labels(name).inc(facts.output_tokens)
        self._duration.labels(name).observe(facts.total_seconds)
        if facts.cached_tokens is not None:
            self._cached.labels(name).inc(facts.cached_tokens)
        if facts.first_token_seconds is not None:
            self._first_token.labels(name).observe(facts.first_token_seconds)
        if facts.queue_seconds is not None:
            self._queue.labels(name).observe(facts.queue_seconds)

    def withheld(self, name: str, facts: Facts) -> None:
        """Count an answer that did not leave: its request and prompt, and nothing that tells its length."""
        self._requests.labels(name, "aborted").inc()
        self._prompt.labels(name).inc(facts.prompt_tokens)
        if facts.cached_tokens is not None:
            self._cached.labels(name).inc(facts.cached_tokens)

    def http(self, route: str, planner: str, status: int) -> None:
        """Count one HTTP response; ``route`` and ``planner`` come from fixed sets, never from the client."""
        self._http.labels(route, planner, str(status)).inc()

    def refused_credentials(self, listener: str) -> None:
        """Count a request to one of ``LISTENERS`` whose key or token was wrong or missing."""
        self._credentials.labels(listener).inc()

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format 0.0.4."""
        return generate_latest(self.registry)
