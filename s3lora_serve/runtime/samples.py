"""A planner as the metrics show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.metrics.planners import PlannerSample

if TYPE_CHECKING:
    from s3lora_serve.runtime.planner import Planner


def sample(planner: Planner, base_model: str, alive: bool) -> PlannerSample:
    """What Prometheus shows of the planner now; none is up unless the engine is ``alive``.

    Inert modules are among the kept or the pruned ones.
    """
    lineage = planner.revision.lineage
    ssi = lineage.report.summary()
    spread = {"min": ssi.min, "median": ssi.median, "max": ssi.max, "mean": ssi.mean}
    return PlannerSample(
        name=planner.name,
        up=planner.up and alive,
        info={
            "revision": planner.revision.digest,
            "base_model": base_model,
            "scorer": lineage.scorer,
            "served_by": planner.active.served_by,
            "state": planner.state.value,
        },
        ssi={stat: value for stat, value in spread.items() if value is not None},
        modules={"kept": lineage.kept, "pruned": len(lineage.pruned), "inert": ssi.inert},
        seconds=planner.active.seconds,
    )
