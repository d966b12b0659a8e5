"""Metrics of each planner's state, read at each scrape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


@dataclass(frozen=True)
class PlannerSample:
    """One planner as Prometheus sees it. A statistic that does not exist is left out of ``ssi``."""

    name: str
    up: bool
    info: Mapping[str, str]  # revision, base_model, scorer, served_by, state
    ssi: Mapping[str, float] = field(default_factory=dict)  # min, median, max, mean
    modules: Mapping[str, int] = field(default_factory=dict)  # kept, pruned, inert
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage of bringing it up


INFO = ("revision", "base_model", "scorer", "served_by", "state")


class PlannerCollector(Collector):
    """Builds the gauges at each scrape, so that no series outlives the revision that it describes."""

    def __init__(self, planners: Callable[[], Iterable[PlannerSample]]) -> None:
        self._planners = planners

    def collect(self) -> Iterator[Metric]:
        """The gauges of every planner."""
        info = GaugeMetricFamily(
            "s3lora_planner_info",
            "Always 1; the revision and what is known of it.",
            labels=("planner", *INFO),
        )
        up = GaugeMetricFamily("s3lora_planner_up", "1 while the planner serves.", labels=("planner",))
        ssi = GaugeMetricFamily(
            "s3lora_planner_ssi", "Spectral sharpness index over the modules.", labels=("planner", "stat")
        )
        modules = GaugeMetricFamily(
            "s3lora_modules", "LoRA modules of the adapter as it was admitted.", labels=("planner", "kind")
        )
        seconds = GaugeMetricFamily(
            "s3lora_planner_stage_seconds",
            "Seconds each stage of bringing it up took.",
            labels=("planner", "stage"),
        )
        for planner in self._planners():
            info.add_metric((planner.name, *(planner.info.get(key, "") for key in INFO)), 1)
            up.add_metric((planner.name,), float(planner.up))
            for family, values in (
                (ssi, planner.ssi),
                (modules, planner.modules),
                (seconds, planner.seconds),
            ):
                for key, value in values.items():
                    family.add_metric((planner.name, key), float(value))
        yield from (info, up, ssi, modules, seconds)
