"""The states of a planner's revision in service, and the one table of what may follow what."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class PlannerState(StrEnum):
    """Where one revision of one planner is on its way through the engine."""

    ADMITTED = "admitted"  # published in the store; the engine knows nothing of it yet
    LOADING = "loading"  # the engine is reading its weights
    PROBING = "probing"  # loaded; being compared with the base model
    SERVING = "serving"  # its name answers requests
    DRAINING = "draining"  # takes no new request; earlier ones still run on it
    UNLOADED = "unloaded"  # the engine has forgotten it
    FAILED = "failed"  # it could not be brought into service, or fell out of it


TRANSITIONS: Mapping[PlannerState, frozenset[PlannerState]] = {
    # ADMITTED → SERVING: a fully pruned revision has nothing to load, the base model answers for it.
    PlannerState.ADMITTED: frozenset({PlannerState.LOADING, PlannerState.SERVING, PlannerState.FAILED}),
    PlannerState.LOADING: frozenset({PlannerState.PROBING, PlannerState.FAILED}),
    PlannerState.PROBING: frozenset({PlannerState.SERVING, PlannerState.FAILED}),
    PlannerState.SERVING: frozenset({PlannerState.DRAINING, PlannerState.FAILED}),
    # DRAINING → SERVING: a rollback before the last request has left.
    PlannerState.DRAINING: frozenset({PlannerState.SERVING, PlannerState.UNLOADED, PlannerState.FAILED}),
    # Both are final: to serve the revision again is to admit it again, under a new slot id.
    PlannerState.UNLOADED: frozenset(),
    PlannerState.FAILED: frozenset(),
}
