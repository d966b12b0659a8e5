"""What Prometheus is told of guards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s3lora_serve.safety.guard.ruling import Found, Ruling
from s3lora_serve.service.metrics.prometheus import Metrics


def counted(metrics: Metrics) -> dict[str, float]:
    """Each sample of guards by name and sorted label values, but for zeros and buckets."""
    return {
        " ".join((sample.name, *(value for _, value in sorted(sample.labels.items())))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
        if sample.name.startswith("s3lora_guard") and sample.value and "_bucket" not in sample.name
        if not sample.name.endswith("_created")
    }


ASKED = {"s3lora_guard_asked_total base p": 1.0}


@pytest.mark.parametrize(
    ("ruling", "done", "also"),
    [
        (Ruling(Found.ALLOWED, "base"), "served", {"s3lora_guard_seconds_count base p": 1}),
        (
            Ruling(Found.REFUSED, "base", "evidence", prompt_tokens=9, output_tokens=2, cached=True),
            "withheld",
            {
                "s3lora_guard_refused_total base evidence p": 1,
                "s3lora_guard_prompt_tokens_total base p": 9,
                "s3lora_guard_output_tokens_total base p": 2,
                "s3lora_guard_cached_total base p": 1,
            },
        ),
        (
            Ruling(Found.FAILED, "base", seconds=2.5),
            "open",
            {
                "s3lora_guard_failed_total base p": 1,
                "s3lora_guard_open_total base p": 1,
                "s3lora_guard_seconds_count base p": 1,
                "s3lora_guard_seconds_sum base p": 2.5,
            },
        ),
        (
            Ruling(Found.UNDECIDED, "base", cached=True),
            "withheld",
            {"s3lora_guard_undecided_total base p": 1, "s3lora_guard_cached_total base p": 1},
        ),
    ],
)
def test_each_finding_is_counted_once(ruling, done, also):
    """By planner and judge; tokens of a guard are no planner's, and what was remembered took no time."""
    metrics = Metrics()
    metrics.guard.ruled("p", ruling, done)
    assert counted(metrics) == ASKED | also
    assert b'planner="p"' not in b"".join(
        line for line in metrics.exposition().splitlines() if line.startswith(b"s3lora_prompt_tokens")
    )


def test_withheld_answers_and_lost_records_are_counted():
    """An answer once, however many judges refused; records that were lost as of the scrape."""
    metrics, log = Metrics(), SimpleNamespace(lost=0)
    metrics.guard.lost = lambda: log.lost
    metrics.guard.declare("p", "base")
    assert counted(metrics) == {}
    assert b's3lora_guard_asked_total{by="base",planner="p"} 0.0' in metrics.exposition()
    metrics.guard.withheld("p")
    log.lost = 3
    assert counted(metrics) == {"s3lora_guard_withheld_total p": 1, "s3lora_guard_lost_records_total": 3}
