"""What operators watch while revisions change: leases by role, operations, slots, restarts of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# Seconds: a flip takes microseconds, a load of a large adapter over a network seconds, a drain minutes.
_STAGE = (0.0001, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


@dataclass(frozen=True)
class LiveSample:
    """The moment of a scrape."""

    slots: int = 0  # that the engine has; 0 while it does not run
    taken: int = 0  # slots that are held or promised
    waiting: int = 0  # requests that wait for a slot
    evictions: int = 0  # since the start
    restarts: int = 0  # of the engine since the start
    abandoned: int = 0  # threads that hang in a source, and that nothing waits for any more
    alive: bool = True
    engine: str = ""  # its kind
    leases: Mapping[str, int] = field(default_factory=dict)  # requests that run, by planner
    head: int = 0  # number of the journal's last entry
    announced: str = ""  # SEQ:HASH of the journal's head that was given out last


class LiveMetrics:
    """Counters of what has happened, and gauges of what is so now."""

    def __init__(self, registry: CollectorRegistry, sample: Callable[[], LiveSample]) -> None:
        self._leases = Counter(
            "s3lora_leases",
            "Requests that ended, by what answered them: the active revision, a canary or a shadow.",
            ("planner", "role", "outcome"),
            registry=registry,
        )
        self._operations = Counter(
            "s3lora_operations",
            "Operations that ended; by: operator, rule or file.",
            ("kind", "outcome", "by"),
            registry=registry,
        )
        self._stage = Histogram(
            "s3lora_operation_stage_seconds",
            "What the stages of operations took.",
            ("stage",),
            buckets=_STAGE,
            registry=registry,
        )
        registry.register(_Live(sample))

    def lease(self, planner: str, role: str, outcome: str) -> None:
        """Count one lease that was given back."""
        self._leases.labels(planner, role, outcome).inc()

    def operation(self, kind: str, outcome: str, actor: str, seconds: Mapping[str, float]) -> None:
        """Count one operation that ended, with the seconds of its stages."""
        by = "rule" if actor.startswith("rule:") else "file" if actor == "SIGHUP" else "operator"
        self._operations.labels(kind, outcome, by).inc()
        for stage, taken in seconds.items():
            self._stage.labels(stage).observe(taken)


class _Live(Collector):
    """Builds the gauges at each scrape."""

    def __init__(self, sample: Callable[[], LiveSample]) -> None:
        self._sample = sample

    def collect(self) -> Iterator[Metric]:
        now = self._sample()
        info = GaugeMetricFamily(
            "s3lora_engine_info", "Always 1; engine: vllm, or fake, which has no model.", labels=("engine",)
        )
        info.add_metric((now.engine,), 1)
        yield info
        # One series, which changes as seldom as heads are given out: not with every entry.
        noted = GaugeMetricFamily(
            "s3lora_journal_head_info",
            "Always 1; head: the journal's SEQ:HASH given out last.",
            labels=("head",),
        )
        noted.add_metric((now.announced,), 1)
        yield noted
        for name, text, value in (
            ("s3lora_journal_head_seq", "Number of the journal's last entry.", now.head),
            ("s3lora_engine_up", "1 while the engine runs and holds what it should.", float(now.alive)),
            ("s3lora_slots", "Adapters that the engine can hold at once.", now.slots),
            ("s3lora_slots_taken", "Adapters that it holds or is about to.", now.taken),
            ("s3lora_slot_waiting", "Requests that wait for a slot.", now.waiting),
            ("s3lora_abandoned_threads", "Threads left behind in sources that do not answer.", now.abandoned),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        for name, text, value in (
            ("s3lora_evictions", "Slots that were taken from one planner for another.", now.evictions),
            ("s3lora_engine_restarts", "Engines that died and were replaced.", now.restarts),
        ):
            yield CounterMetricFamily(name, text, value=value)
        running = GaugeMetricFamily("s3lora_leases_running", "Requests that run.", labels=("planner",))
        for planner, count in now.leases.items():
            running.add_metric((planner,), count)
        yield running
