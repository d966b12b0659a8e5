"""Planners and running work, as the metrics show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.service.metrics.fleet_metrics import LiveSample
from s3lora_serve.service.metrics.planner_metrics import PlannerSample

if TYPE_CHECKING:
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import LeaseBook
    from s3lora_serve.fleet.planner import Planner
    from s3lora_serve.fleet.work_threads import WorkThreads
    from s3lora_serve.serving.engine_supervisor import EngineSupervisor
    from s3lora_serve.serving.loading import Loading


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


def live_sample(
    host: EngineSupervisor,
    fleet: Fleet,
    loading: Loading,
    leases: LeaseBook,
    journal: Journal,
    threads: WorkThreads,
) -> LiveSample:
    """Slots, waits, leases and the journal's head now."""
    counts, announced = leases.counts(), journal.announced
    return LiveSample(
        slots=loading.capacity if host.alive else 0,
        taken=loading.taken,
        waiting=loading.waiting,
        evictions=loading.evictions,
        restarts=host.restarts,
        abandoned=threads.abandoned,
        alive=host.alive,
        engine=host.kind,
        leases={name: sum(counts.get(d.key, 0) for d in fleet.of(name)) for name in fleet.names()},
        head=journal.last.seq,
        announced=f"{announced.seq}:{announced.hash}",
    )
