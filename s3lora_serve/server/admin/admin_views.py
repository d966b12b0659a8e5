"""What operators are shown: planners with all their deployments, operations, the history."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from s3lora_serve.control.journal.journal_findings import AuditFinding
from s3lora_serve.control.operation_summary import summary
from s3lora_serve.safety.guard.guard_facts import guard_facts
from s3lora_serve.server.redact import public_source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3lora_serve.control.journal.entry import Entry
    from s3lora_serve.control.operation import Operation
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.planner import Planner
    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService


class DeploymentView(BaseModel):
    """One revision of a planner, as the engine holds it."""

    key: str
    revision: str
    state: str
    reason: str | None
    served_by: str
    slot: int | None
    leases: int
    source: str
    admitted_at: str
    kept_modules: int
    pruned_modules: int
    effect: dict[str, float] | None
    exam: dict[str, Any] | None
    seconds: dict[str, float]


class PlannerView(BaseModel):
    """A planner: its name's meaning, and every deployment behind it."""

    id: str
    object: str = "planner"
    description: str
    pinned: bool
    generation: int
    up: bool
    engine: str
    revision: str
    active: DeploymentView
    candidate: DeploymentView | None
    rollout: dict[str, Any] | None
    shadow: dict[str, Any] | None
    previous: str | None
    others: list[DeploymentView]
    guard: dict[str, Any] | None


class OrderView(BaseModel):
    """Who ordered, and under which condition."""

    actor: str
    reason: str
    expected: str | None
    key: str | None


class OperationView(BaseModel):
    """One order and what became of it. Times are Unix seconds, durations seconds."""

    id: str
    object: str = "operation"
    kind: str
    planner: str | None
    order: OrderView
    step: str
    ended: bool
    started_at: float
    ended_at: float | None
    from_digest: str | None
    to_digest: str | None
    progress: str
    fraction: float | None
    seconds: dict[str, float]
    cut: list[str]
    error: dict[str, str] | None
    details: dict[str, Any]
    summary: str


class EntryView(BaseModel):
    """One line of the history."""

    seq: int
    at: str
    actor: str
    action: str
    planner: str | None
    operation: str | None
    from_digest: str | None
    to_digest: str | None
    reason: str
    details: dict[str, Any]
    previous_hash: str
    hash: str


class RestartView(BaseModel):
    """How far the restart of a lost engine has come; ``attempt`` 0 still closes the lost one."""

    stage: str
    attempt: int
    began_at: float


class EngineView(BaseModel):
    """The engine: whether it runs, why not, what its restart is at, and on a GPU what computes LoRA."""

    kind: str
    alive: bool
    restarts: int
    reason: str | None
    restart: RestartView | None
    lora_kernels: str | None


class PlannerList(BaseModel):
    """Every planner, in the order of the configuration."""

    object: str = "list"
    data: list[PlannerView]


class OperationList(BaseModel):
    """Operations, newest first."""

    object: str = "list"
    data: list[OperationView]


class History(BaseModel):
    """Lines of the history, newest first."""

    object: str = "list"
    data: list[EntryView]


class Verification(BaseModel):
    """Whether journal, store and engine agree, and what was looked at."""

    ok: bool
    findings: list[AuditFinding]


def engine_view(service: PlannerService, redact: Redactor) -> EngineView:
    """The engine that is kept running."""
    host = service.host
    restart = host.restart and RestartView(
        stage=host.restart.stage, attempt=host.restart.attempt, began_at=host.restart.began_at
    )
    return EngineView(
        kind=service.engine_kind,
        alive=host.alive,
        restarts=host.restarts,
        reason=redact(host.down_reason) or None,
        restart=restart,
        lora_kernels=host.current.lora_kernels if host.alive else None,
    )


def planner_view(planner: Planner, service: PlannerService, redact: Redactor) -> PlannerView:
    """A planner with all its deployments."""

    def view(deployment: Deployment) -> DeploymentView:
        exam = service.exams.facts(deployment)
        return deployment_view(deployment, planner.leases.get(deployment.key, 0), exam, redact)

    state, reason = service.state_of(planner)
    active, shadow = view(planner.active), service.shadows.stats(planner.name)
    return PlannerView(
        id=planner.name,
        description=planner.description,
        pinned=planner.pinned,
        generation=planner.generation,
        up=planner.up,
        engine=service.engine_kind,
        revision=planner.revision.digest,
        active=active.model_copy(update={"state": state.value, "reason": redact(reason) or None}),
        candidate=view(planner.candidate) if planner.candidate else None,
        rollout=cleaned(planner.rollout.to_json(), redact) if planner.rollout else None,
        shadow=cleaned(shadow.to_json(), redact) if shadow else None,
        previous=planner.previous,
        others=[view(other) for other in planner.others],
        guard=guard_facts(service.guards.settings(planner.name), service.guards.self_test),
    )


def deployment_view(
    deployment: Deployment, leases: int, exam: dict[str, Any] | None, redact: Redactor
) -> DeploymentView:
    """A deployment with the requests that run on it, and what its exam found."""
    lineage = deployment.revision.lineage
    return DeploymentView(
        key=deployment.key,
        revision=deployment.revision.digest,
        state=deployment.state.value,
        reason=redact(deployment.reason) or None,
        served_by=deployment.served_by,
        slot=deployment.slot.id if deployment.slot else None,
        leases=leases,
        source=public_source(lineage.source),
        admitted_at=lineage.created_at.isoformat(),
        kept_modules=lineage.kept,
        pruned_modules=len(lineage.pruned),
        effect=dataclasses.asdict(deployment.effect) if deployment.effect else None,
        exam=exam,
        seconds=dict(deployment.seconds),
    )


def operation_view(operation: Operation, redact: Redactor) -> OperationView:
    """An operation, in words without paths of the server."""
    told = operation.to_json()
    shown = {
        "order": {**told["order"], "reason": redact(operation.order.reason)},
        "ended": operation.step.ended,
        "progress": redact(operation.progress),
        "error": cleaned(operation.error, redact),
        "details": cleaned(operation.details, redact),
        "summary": redact(summary(operation)),
    }
    return OperationView(**told | shown)


def entry_view(entry: Entry, redact: Redactor) -> EntryView:
    """A line of the history. Its hash is of what is stored, which may hold paths that are not shown."""
    shown = {"reason": redact(entry.reason), "details": cleaned(entry.details, redact)}
    return EntryView(**entry.to_json() | shown)


def verification(findings: Iterable[AuditFinding], redact: Redactor) -> Verification:
    """Findings, and whether all is well."""
    shown = [
        AuditFinding(found.ok, redact(found.subject), redact(found.message), redact(found.hint))
        for found in findings
    ]
    return Verification(ok=all(found.ok for found in shown), findings=shown)


def cleaned(value: Any, redact: Redactor) -> Any:
    """The same JSON value with every text in it redacted; a ``source`` keeps what tells it from others."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            str(key): public_source(inner)
            if key == "source" and isinstance(inner, str)
            else cleaned(inner, redact)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [cleaned(inner, redact) for inner in value]
    return value
