"""What exams found, by planner; what they asked counts for no planner's requests."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from s3lora_serve.safety.exam.kept_exam import KeptExam

_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
VERDICTS = ("passed", "refused", "undecided")


class ExamMetrics:
    """``asked`` counts the exams that were taken; a verdict that was kept from an earlier one counts, too."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        self._asked = counter("s3lora_exam_asked", "Exams that were taken.", ("planner",))
        self._verdicts = counter(
            "s3lora_exam_verdicts", "Verdicts by which loads went on or ended.", ("planner", "verdict")
        )
        self._stale = counter(
            "s3lora_exam_stale",
            "Those of them that were of other questions, settings, guard or base than now.",
            ("planner",),
        )
        self._seconds = Histogram(
            "s3lora_exam_seconds", "How long exams took.", ("planner",), buckets=_SECONDS, registry=registry
        )
        self._tries = Gauge(
            "s3lora_exam_tries",
            "Exams so far of the source that the planner's last one was of.",
            ("planner",),
            registry=registry,
        )

    def declare(self, planner: str) -> None:
        """Show a planner with zeros before its first exam."""
        for metric in (self._asked, self._stale, self._seconds, self._tries):
            metric.labels(planner)
        for verdict in VERDICTS:
            self._verdicts.labels(planner, verdict)

    def found(self, planner: str, found: KeptExam, asked: bool) -> None:
        """Count one verdict; ``asked``: its exam was taken now."""
        self._verdicts.labels(planner, found.result.verdict.value).inc()
        self._tries.labels(planner).set(found.tries)
        if found.stale:
            self._stale.labels(planner).inc()
        if asked:
            self._asked.labels(planner).inc()
            self._seconds.labels(planner).observe(found.result.seconds)
