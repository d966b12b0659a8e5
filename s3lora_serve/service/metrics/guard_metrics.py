"""What guards were asked and found, by planner and judge; their tokens are counted apart from planners'."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Seconds: a verdict takes the first sentence of an answer, and one that fails all the time that it may.
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_WITHOUT_VERDICT = ("undecided", "failed")


class RulingFacts(Protocol):
    """What is counted of one judge's finding; ``guard.ruling.Ruling`` has it."""

    @property
    def finding(self) -> str: ...
    @property
    def by(self) -> str: ...
    @property
    def part(self) -> str | None: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def cached(self) -> bool: ...


class GuardMetrics:
    """``lost`` is asked at each scrape: how many requests' verdicts could not be written down."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lost: Callable[[], int] = int
        counter = partial(Counter, labelnames=("planner", "by"), registry=registry)
        self._asked = counter("s3lora_guard_asked", "Requests that a judge was asked about.")
        self._refused = Counter(
            "s3lora_guard_refused",
            "Requests that a judge refused, and the part that it refused.",
            ("planner", "by", "part"),
            registry=registry,
        )
        self._without = {
            "undecided": counter("s3lora_guard_undecided", "Requests to which a judge said neither."),
            "failed": counter("s3lora_guard_failed", "Requests about which a judge failed or was late."),
        }
        self._open = counter("s3lora_guard_open", "Requests that were answered without this judge's verdict.")
        self._cached = counter("s3lora_guard_cached", "Requests whose verdict was remembered.")
        self._prompt = counter("s3lora_guard_prompt_tokens", "Tokens that a judge read.")
        self._output = counter("s3lora_guard_output_tokens", "Tokens that a judge wrote.")
        self._withheld = Counter(
            "s3lora_guard_withheld", "Answers that were withheld.", ("planner",), registry=registry
        )
        self._exempt = Counter(
            "s3lora_guard_exempt",
            "Requests of callers whom guard.allow exempts.",
            ("planner",),
            registry=registry,
        )
        self._seconds = Histogram(
            "s3lora_guard_seconds",
            "From the question to the verdict, those that were remembered left out.",
            ("planner", "by"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._tested = Gauge(
            "s3lora_guard_self_test_ratio",
            "What the base model refused at the start of attacks, planning tasks and harmless prompts.",
            ("figure", "bound"),
            registry=registry,
        )
        registry.register(_Lost(lambda: self.lost()))

    def declare(self, planner: str, by: str) -> None:
        """Show a judge of a planner with zeros before its first request."""
        for metric in (self._asked, self._open, self._cached, self._prompt, self._output, self._seconds):
            metric.labels(planner, by)
        for metric in self._without.values():
            metric.labels(planner, by)
        self._refused.labels(planner, by, "task")
        self._withheld.labels(planner)
        self._exempt.labels(planner)

    def ruled(self, planner: str, ruling: RulingFacts, done: str) -> None:
        """Count one judge's finding; ``done`` is what became of the request: withheld, served or open."""
        labels = (planner, ruling.by)
        self._asked.labels(*labels).inc()
        self._prompt.labels(*labels).inc(ruling.prompt_tokens)
        self._output.labels(*labels).inc(ruling.output_tokens)
        if ruling.cached:
            self._cached.labels(*labels).inc()
        else:
            self._seconds.labels(*labels).observe(ruling.seconds)
        if ruling.finding == "refused":
            self._refused.labels(*labels, ruling.part or "task").inc()
        elif ruling.finding in _WITHOUT_VERDICT:
            self._without[ruling.finding].labels(*labels).inc()
            if done == "open":
                self._open.labels(*labels).inc()

    def tested(self, found: Mapping[str, Any]) -> None:
        """Show the shares of a self-test, each with its interval."""
        for figure in ("refusal", "over_refusal", "harmless_refusal"):
            for bound in ("value", "low", "high") if figure in found else ():
                self._tested.labels(figure, bound).set(found[figure][bound])

    def withheld(self, planner: str) -> None:
        """Count one answer that was withheld."""
        self._withheld.labels(planner).inc()

    def exempt(self, planner: str) -> None:
        """Count one request that no judge was asked about."""
        self._exempt.labels(planner).inc()


class _Lost(Collector):
    """Built at each scrape."""

    def __init__(self, lost: Callable[[], int]) -> None:
        self._lost = lost

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "s3lora_guard_lost_records",
            "Judged requests that could not be written down.",
            value=self._lost(),
        )
