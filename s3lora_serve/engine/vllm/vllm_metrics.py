"""vLLM's own Prometheus metrics, with planners' names where vLLM has the names of slots."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def by_planner(running: Mapping[str, int]) -> dict[str, int]:
    """Requests by planner, in alphabetical order, from requests by slot (``alias@sha12``)."""
    counts: Counter[str] = Counter()
    for name, number in running.items():
        counts[name.rpartition("@")[0] or name] += number
    return dict(sorted(counts.items()))


def planner_metrics() -> type[Any]:
    """The class to give ``AsyncLLM`` among its ``stat_loggers``: it stands in place of vLLM's own one.

    ``vllm:lora_requests_info`` then has one series, what runs and waits now. vLLM keeps one for every
    combination of names that it ever saw, and with a name for each revision those grow with every swap
    (v1/metrics/loggers.py); routers that match its labels against public names found nothing.
    """
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class PlannerMetrics(PrometheusStatLogger):  # type: ignore[misc]  # vLLM brings no types
        def record(self, scheduler_stats: Any, *rest: Any, **named: Any) -> None:
            gauge = self.gauge_lora_info
            if scheduler_stats is not None and gauge is not None:
                for field in ("running_lora_adapters", "waiting_lora_adapters"):
                    setattr(scheduler_stats, field, by_planner(getattr(scheduler_stats, field)))
                gauge.clear()
            super().record(scheduler_stats, *rest, **named)

    return PlannerMetrics
