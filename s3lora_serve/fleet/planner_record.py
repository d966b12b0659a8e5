"""What is written down of a planner: what it shall serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PlannerRecord:
    """What a planner shall serve, also after a restart. Digests name revisions in the store."""

    name: str
    active: str  # digest
    previous: str | None  # digest; what a rollback goes back to
    candidate: str | None  # digest; the canary's or the shadow's
    rollout: Mapping[str, Any] | None  # the candidate's rollout as JSON
    declared: str  # digest of what planners.yaml said when this was decided
    generation: int
