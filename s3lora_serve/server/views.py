"""Planners as clients see them. Nothing here holds a path of the server."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from s3lora_serve.safety.guard.guard_facts import guard_facts
from s3lora_serve.server.redact import public_source

if TYPE_CHECKING:
    from planners import PlanMeta
    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.fleet.planner import Planner
    from s3lora_serve.server.redact import Redactor
    from s3lora_serve.service.planner_service import PlannerService

# What is told of a lineage: no path, and nothing that only the engine needs.
_LINEAGE = (
    "source",
    "source_sha256",
    "scorer",
    "scorer_version",
    "policy",
    "action",
    "weights_sha256",
    "weights_bytes",
    "created_at",
    "warnings",
    "anomaly",
)


def base_card(service: PlannerService, max_model_len: int) -> dict[str, Any]:
    """The base model's entry in ``/v1/models``."""
    return {
        "id": service.base_model,
        "object": "model",
        "created": int(service.started_at),
        "owned_by": "s3lora-serve",
        "root": service.base_model,
        "parent": None,
        "max_model_len": max_model_len,
        "engine": service.engine_kind,
    }


def planner_card(planner: Planner, service: PlannerService, max_model_len: int) -> dict[str, Any]:
    """A planner's entry in ``/v1/models``: OpenAI's fields, and ours under ``s3lora``."""
    return {
        **base_card(service, max_model_len),
        "id": planner.name,
        "created": int(planner.revision.lineage.created_at.timestamp()),
        "parent": service.base_model,
        "s3lora": {
            "revision": planner.revision.digest,
            "ssi": _ssi(planner),
            "pruned_modules": list(planner.revision.lineage.pruned),
            "state": service.state_of(planner)[0].value,
            "candidate": planner.candidate.revision.digest if planner.candidate else None,
        },
    }


def planner_summary(planner: Planner, service: PlannerService, redact: Redactor) -> dict[str, Any]:
    """A planner's entry in ``/v1/planners``."""
    lineage = planner.revision.lineage
    state, reason = service.state_of(planner)
    return {
        "id": planner.name,
        "object": "planner",
        "description": planner.description,
        "tools": [tool.model_dump(exclude_none=True) for tool in planner.tools],
        "state": state.value,
        "reason": redact(reason) or None,
        "served_by": planner.active.served_by,
        "revision": planner.revision.digest,
        "previous": planner.previous,
        "generation": planner.generation,
        "rollout": _rollout(planner),
        "deployments": _deployments(planner, state.value),
        "base_model": service.base_model,
        "engine": service.engine_kind,
        "ssi": _ssi(planner),
        "kept_modules": lineage.kept,
        "pruned_modules": list(lineage.pruned),
        "plan": {
            "reason": lineage.plan.reason,
            "abstained": lineage.plan.abstained,
            "cautions": list(lineage.plan.cautions),
        },
        "guard": guard_facts(service.guards.settings(planner.name), service.guards.self_test),
        "exam": service.exams.facts(planner.active),
    }


def planner_report(planner: Planner, service: PlannerService, redact: Redactor) -> dict[str, Any]:
    """All that is known of a planner: summary, lineage, prune plan, proof of effect, a row a module."""
    lineage = planner.revision.lineage
    pruned, told = frozenset(lineage.pruned), lineage.to_json()
    return {
        **planner_summary(planner, service, redact),
        "lineage": {
            **{name: told[name] for name in _LINEAGE if name in told},
            "source": public_source(lineage.source),
            "warnings": [redact(warning) for warning in lineage.warnings],
        },
        "plan": {"cautions": [], **told["plan"]},
        "effect": dataclasses.asdict(planner.active.effect) if planner.active.effect else None,
        "seconds": dict(planner.active.seconds),
        "modules": [
            {key: value for key, value in row.items() if key != "sigma"} | {"pruned": row["module"] in pruned}
            for row in told["report"]["modules"]
        ],
    }


def headers_of(lease: Lease) -> dict[str, str]:
    """Which planner answers, for clients that see headers: its name, revision and that revision's role."""
    return _headers(lease.deployment.planner, lease.deployment.revision.digest, lease.role)


def headers_of_plan(meta: PlanMeta) -> dict[str, str]:
    """The same of a whole plan."""
    return _headers(meta.planner, meta.revision, meta.role)


def _headers(planner: str, revision: str, role: str) -> dict[str, str]:
    return {"x-s3lora-planner": planner, "x-s3lora-revision": revision, "x-s3lora-role": role}


def _rollout(planner: Planner) -> dict[str, Any] | None:
    """Which revision is tried, and on what share of the requests."""
    if planner.candidate is None or planner.rollout is None:
        return None
    return {
        "revision": planner.candidate.revision.digest,
        "share": planner.rollout.share,
        "shadow": planner.rollout.shadow,
    }


def _deployments(planner: Planner, active: str) -> list[dict[str, Any]]:
    """Every revision that the engine holds or is to hold, with the requests that run on it."""
    first = [(planner.active, active)]
    others = [(other, other.state.value) for other in (planner.candidate, *planner.others) if other]
    return [
        {
            "revision": deployment.revision.digest,
            "state": state,
            "requests": planner.leases.get(deployment.key, 0),
        }
        for deployment, state in first + others
    ]


def _ssi(planner: Planner) -> dict[str, Any]:
    return dataclasses.asdict(planner.revision.lineage.report.summary())
