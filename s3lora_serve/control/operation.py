"""Operations: what an operator ordered, how far it is, and how it ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from s3lora_serve.adapters.fetch.address import Source
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.fleet.planner import DesiredPlanner
    from s3lora_serve.spectral.prune_policy import PrunePolicy


RULE = "rule:"  # how the actor of an order begins that an automatic rule gives


class Kind(StrEnum):
    """What can be ordered."""

    SWAP = "swap"  # serve another revision
    ROLLBACK = "rollback"  # serve the one before, or give a canary up
    CANARY = "canary"  # give a share of the requests to another revision
    SHADOW = "shadow"  # run a share of the requests on another revision, answer none from it
    PROMOTE = "promote"  # serve the canary's revision
    EXAM = "exam"  # ask what serves, or what might, the exam's questions; nothing changes
    APPLY = "apply"  # bring the fleet to what planners.yaml says
    REMOVE = "remove"  # stop serving a planner; part of an apply


class Step(StrEnum):
    """How far an operation is. Up to ``FLIPPING`` its planner takes no other one."""

    ADMITTING = "admitting"  # fetch, verify, score, prune, publish
    LOADING = "loading"  # into the engine, then probe and trial
    FLIPPING = "flipping"  # the decision is being written down
    DRAINING = "draining"  # the new revision answers; earlier requests end on the old one
    DONE = "done"
    FAILED = "failed"  # what served before still serves
    UNDONE = "undone"  # the server died before the flip; what served before serves again
    CANCELLED = "cancelled"  # by order, or pre-empted by another operation; what served before still serves

    @property
    def flipped(self) -> bool:
        """Whether a decision is being written down, or was: from here on nothing can be cancelled."""
        return self in (Step.FLIPPING, Step.DRAINING)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (Step.DONE, Step.FAILED, Step.UNDONE, Step.CANCELLED)


@dataclass(frozen=True)
class Wanted:
    """What is to be served: an adapter to admit, or a revision that is in the store already."""

    source: str | None = field(default=None, repr=False)  # as given; ``to_json`` shows it without secrets
    sha256: str | None = None  # pins the source's weights file
    policy: PrunePolicy | None = None  # None: the planner's own
    revision: str | None = None  # digest, or at least 8 of its first digits
    declared: tuple[DesiredPlanner, ...] = ()  # what planners.yaml names now: what that reaches, this may too

    @classmethod
    def of(cls, desired: DesiredPlanner) -> Wanted:
        """What planners.yaml declares of a planner."""
        return cls(desired.source, desired.sha256, desired.policy, declared=(desired,))

    def to_json(self) -> dict[str, Any]:
        """For the journal. Raises SourceError for a source that must not be written down."""
        source = {"source": None} if self.source is None else Source.parse(self.source).to_json()
        policy = self.policy.to_json() if self.policy else None
        return {**source, "sha256": self.sha256, "revision": self.revision, "policy": policy}


@dataclass(frozen=True)
class Order:
    """What the sender of an order says of it: actor, reason, and under which condition."""

    actor: str  # "alice@host", "rule:error_rate", "planners.yaml"
    reason: str = ""
    expected: str | None = None  # refuse unless this digest (or at least 8 first digits) serves now
    key: str | None = None  # idempotency key: the same order again returns the same operation


@dataclass(frozen=True)
class Operation:
    """One order and what became of it."""

    id: str
    kind: Kind
    planner: str | None  # None for apply
    order: Order
    step: Step
    started_at: float  # Unix seconds
    ended_at: float | None = None
    from_digest: str | None = None  # what served when it began
    to_digest: str | None = None  # known once admitted
    progress: str = ""  # the stage within the step, for people
    fraction: float | None = None  # of that stage, 0 to 1
    seconds: Mapping[str, float] = field(
        default_factory=dict
    )  # admit, load, probe, trial, exam, commit, flip, drain
    cut: tuple[str, ...] = ()  # request ids that the drain deadline ended
    error: Mapping[str, str] | None = None  # code, message, hint
    details: Mapping[str, Any] = field(default_factory=dict)  # kind-specific: share, diff, dry_run, …

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal operation if ``details`` are JSON values."""
        return {**asdict(self), "kind": self.kind.value, "step": self.step.value, "cut": list(self.cut)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Operation:
        """The operation that ``to_json`` described. Raises KeyError, TypeError or ValueError."""
        return cls(
            **{
                **data,
                "kind": Kind(data["kind"]),
                "order": Order(**data["order"]),
                "step": Step(data["step"]),
                "cut": tuple(data["cut"]),
            }
        )


def fingerprint(
    kind: Kind, planner: str | None, order: Order, wanted: Wanted | None = None, **asked: Any
) -> str:
    """Digest of what is ordered: equal for the same order given again under its idempotency key.

    Who orders it, and why, is no part of that: a retry may come from another machine. ``asked`` are the
    other terms of the order, as JSON values: share, shadow, to, …. The source goes in as it was given: of a
    digest nothing can be read, and the same address with another query is another order.
    """
    policy = wanted.policy if wanted else None
    named = wanted and {
        "source": wanted.source,
        "sha256": wanted.sha256,
        "policy": policy.to_json() if policy else None,
        "revision": wanted.revision,
    }
    return canonical_digest(
        {
            "kind": kind.value,
            "planner": planner,
            "expected": order.expected,
            "wanted": named,
            "asked": asked,
        }
    )
