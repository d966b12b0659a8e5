"""What Prometheus is told of planners and requests."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s3lora_serve.service.metrics.planner_metrics import PlannerSample
from s3lora_serve.service.metrics.prometheus import Metrics


@dataclass(frozen=True)
class Facts:
    """One finished request, as the engine reports it."""

    outcome: str = "ok"
    prompt_tokens: int = 10
    cached_tokens: int | None = 4
    output_tokens: int = 7
    queue_seconds: float | None = 0.002
    first_token_seconds: float | None = 0.02
    total_seconds: float = 0.3


def values(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every sample by its name and label values, the latter sorted by label name."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_one_request_is_counted_once_in_each_metric():
    """Counts, tokens and times of a request land under its planner."""
    metrics = Metrics()
    metrics.observe("p", Facts())
    found = values(metrics)
    assert {
        name: found[name, ("p",)]
        for name in (
            "s3lora_prompt_tokens_total",
            "s3lora_cached_prompt_tokens_total",
            "s3lora_output_tokens_total",
            "s3lora_request_duration_seconds_sum",
            "s3lora_time_to_first_token_seconds_sum",
            "s3lora_queue_seconds_sum",
        )
    } == {
        "s3lora_prompt_tokens_total": 10,
        "s3lora_cached_prompt_tokens_total": 4,
        "s3lora_output_tokens_total": 7,
        "s3lora_request_duration_seconds_sum": 0.3,
        "s3lora_time_to_first_token_seconds_sum": 0.02,
        "s3lora_queue_seconds_sum": 0.002,
    }
    assert found["s3lora_requests_total", ("ok", "p")] == 1


def test_what_was_not_measured_is_not_counted_as_zero():
    """A figure that the engine could not give leaves its histogram alone."""
    metrics = Metrics()
    metrics.observe("p", Facts(queue_seconds=None, first_token_seconds=None, cached_tokens=None))
    found = values(metrics)
    names = ("s3lora_queue_seconds_count", "s3lora_time_to_first_token_seconds_count")
    assert [found.get((name, ("p",)), 0) for name in names] == [0, 0]


def test_an_idle_planner_is_there_with_zeros():
    """A declared planner has every series before its first request, at zero (vllm#45325)."""
    metrics = Metrics()
    metrics.declare("idle")
    found = values(metrics)
    expected = {
        ("s3lora_requests_total", ("aborted", "idle")),
        ("s3lora_requests_total", ("error", "idle")),
        ("s3lora_requests_total", ("ok", "idle")),
        ("s3lora_request_duration_seconds_count", ("idle",)),
        ("s3lora_time_to_first_token_seconds_count", ("idle",)),
        ("s3lora_queue_seconds_count", ("idle",)),
        ("s3lora_prompt_tokens_total", ("idle",)),
        ("s3lora_cached_prompt_tokens_total", ("idle",)),
        ("s3lora_output_tokens_total", ("idle",)),
    }
    assert {key: found.get(key) for key in expected} == dict.fromkeys(expected, 0)


def test_planner_gauges_follow_the_planner():
    """At each scrape the gauges show what is true then; no series of an earlier revision stays."""
    planners = [
        PlannerSample(
            name="p",
            up=True,
            info={
                "revision": "old",
                "base_model": "b",
                "scorer": "s",
                "served_by": "adapter",
                "state": "serving",
            },
            ssi={"max": 0.5},
            modules={"kept": 3, "pruned": 1, "inert": 0},
            seconds={"load": 0.1},
        )
    ]
    metrics = Metrics(lambda: planners)
    found = values(metrics)
    assert found["s3lora_planner_up", ("p",)] == 1
    assert found["s3lora_planner_ssi", ("p", "max")] == 0.5
    assert found["s3lora_modules", ("pruned", "p")] == 1
    assert found["s3lora_planner_stage_seconds", ("p", "load")] == 0.1
    planners[:] = [PlannerSample(name="p", up=False, info={"revision": "new", "state": "failed"})]
    info = [key for key in values(metrics) if key[0] == "s3lora_planner_info"]
    assert (info, values(metrics)["s3lora_planner_up", ("p",)]) == (
        [("s3lora_planner_info", ("", "p", "new", "", "", "failed"))],
        0,
    )


def test_names_carry_our_prefix_only():
    """Nothing is published under another product's prefix, and nothing of the process at large."""
    metrics = Metrics(lambda: [PlannerSample(name="p", up=True, info={})])
    metrics.observe("p", Facts())
    metrics.http("/v1/plans", "p", 200)
    assert {name.split("_")[0] for name, _ in values(metrics)} == {"s3lora"}


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "ü"])
def test_any_name_survives_the_text_format(name):
    """A label is escaped, so that it cannot forge another series."""
    metrics = Metrics()
    metrics.observe(name, Facts())
    assert values(metrics)["s3lora_requests_total", ("ok", name)] == 1


def test_two_services_count_apart():
    """Each Metrics has its own registry: two in one process do not collide."""
    one, other = Metrics(), Metrics()
    one.observe("p", Facts())
    other.declare("p")
    assert (
        values(one)["s3lora_output_tokens_total", ("p",)],
        values(other)["s3lora_output_tokens_total", ("p",)],
    ) == (
        7,
        0,
    )
