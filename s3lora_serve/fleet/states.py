"""The states of a deployment, and the one table of what may follow what."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class DeploymentState(StrEnum):
    """Where one revision of one planner is on its way through the engine."""

    ADMITTED = "admitted"  # published in the store; the engine knows nothing of it yet
    LOADING = "loading"  # the engine is reading its weights
    PROBING = "probing"  # loaded; being compared with the base model, and tried
    READY = "ready"  # proved, and given no request yet
    SHADOW = "shadow"  # runs a share of the requests again; its answers are not sent
    CANARY = "canary"  # answers a share of its planner's requests
    SERVING = "serving"  # answers its planner's requests
    DRAINING = "draining"  # takes no new request; earlier ones still run on it
    STANDBY = "standby"  # drained and still loaded, so that a rollback to it takes no load
    EVICTED = "evicted"  # its slot was given away or lost; loaded again on demand
    UNLOADED = "unloaded"  # the engine has forgotten it
    FAILED = "failed"  # it could not be brought into service, or fell out of it


_S = DeploymentState

TRANSITIONS: Mapping[DeploymentState, frozenset[DeploymentState]] = {
    # ADMITTED → READY: a fully pruned revision has nothing to load, the base model answers for it.
    # ADMITTED → EVICTED: after a restart it waits for the first request.
    _S.ADMITTED: frozenset({_S.LOADING, _S.READY, _S.EVICTED, _S.FAILED}),
    _S.LOADING: frozenset({_S.PROBING, _S.EVICTED, _S.FAILED}),
    _S.PROBING: frozenset({_S.READY, _S.EVICTED, _S.FAILED}),
    # READY → UNLOADED: the swap that it was loaded for was given up.
    _S.READY: frozenset({_S.SERVING, _S.CANARY, _S.SHADOW, _S.EVICTED, _S.UNLOADED, _S.FAILED}),
    # → EVICTED from any loaded state: the engine died, or (SERVING and idle) its slot was needed.
    _S.SHADOW: frozenset({_S.CANARY, _S.SERVING, _S.DRAINING, _S.EVICTED, _S.FAILED}),
    _S.CANARY: frozenset({_S.SHADOW, _S.SERVING, _S.DRAINING, _S.EVICTED, _S.FAILED}),
    _S.SERVING: frozenset({_S.DRAINING, _S.EVICTED, _S.FAILED}),
    # DRAINING, STANDBY → SERVING: a rollback in milliseconds. → CANARY, SHADOW: tried once more.
    _S.DRAINING: frozenset({_S.SERVING, _S.CANARY, _S.SHADOW, _S.STANDBY, _S.UNLOADED, _S.FAILED}),
    _S.STANDBY: frozenset({_S.SERVING, _S.CANARY, _S.SHADOW, _S.UNLOADED, _S.FAILED}),
    _S.EVICTED: frozenset({_S.LOADING, _S.READY, _S.UNLOADED, _S.FAILED}),
    # Both are final: to serve the revision again is a new deployment, under a new slot id.
    _S.UNLOADED: frozenset(),
    _S.FAILED: frozenset(),
}

# The states in which the engine holds a slot for it (unless it was fully pruned).
LOADED = frozenset({_S.READY, _S.SHADOW, _S.CANARY, _S.SERVING, _S.DRAINING, _S.STANDBY})
# The states in which it answers requests, at once or after it was loaded again.
UP = frozenset({_S.CANARY, _S.SERVING})
