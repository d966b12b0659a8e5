"""A planner: a public name, and the revisions behind it at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from s3lora_serve.fleet.planner_record import PlannerRecord
from s3lora_serve.fleet.states import UP
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planners import ToolSpec
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Slot
    from s3lora_serve.fleet.deployment import Deployment, DeploymentState
    from s3lora_serve.fleet.rollout import Rollout
    from s3lora_serve.spectral.prune_policy import PrunePolicy


@dataclass(frozen=True)
class DesiredPlanner:
    """One planner as planners.yaml declares it. ``declared`` is the digest of source, pin and policy."""

    source: str = field(repr=False)  # as given: the query of a signed URL is in it
    declared: str
    policy: PrunePolicy
    sha256: str | None = None
    description: str = ""
    pinned: bool = False
    tools: tuple[ToolSpec, ...] = ()  # its own: for requests that name none

    @classmethod
    def of(
        cls,
        source: str,
        policy: PrunePolicy,
        *,
        sha256: str | None = None,
        description: str = "",
        pinned: bool = False,
        tools: tuple[ToolSpec, ...] = (),
    ) -> DesiredPlanner:
        """The declaration with its digest, which is of the source as given: a new signature is a new one."""
        declared = canonical_digest({"source": source, "sha256": sha256, "policy": policy.to_json()})
        return cls(source, declared, policy, sha256, description, pinned, tools)


@dataclass(frozen=True)
class Alias:
    """What a planner's name means: keys of deployments. The flip replaces one value of this by another."""

    name: str
    desired: DesiredPlanner
    active: str
    generation: int = 1  # counts the decisions about this name
    candidate: str | None = None
    rollout: Rollout | None = None  # how the candidate is tried
    previous: str | None = None  # digest of what served before; a rollback's goal
    withheld: str = ""  # why no request is answered until an order says what serves
    withheld_by: Literal["journal", "exam"] = "journal"  # what found that

    def record(self, active: Revision, candidate: Revision | None) -> PlannerRecord:
        """What the journal keeps of it; ``active`` and ``candidate`` are the revisions behind the keys."""
        return PlannerRecord(
            name=self.name,
            active=active.digest,
            previous=self.previous,
            candidate=candidate.digest if candidate else None,
            rollout=self.rollout.to_json() if self.rollout else None,
            declared=self.desired.declared,
            generation=self.generation,
        )


@dataclass(frozen=True)
class Planner:
    """A planner as it was when asked: its name's meaning, with the deployments themselves."""

    alias: Alias
    active: Deployment
    candidate: Deployment | None
    others: tuple[Deployment, ...]  # draining or kept for a rollback
    leases: Mapping[str, int]  # requests that run, by deployment key

    @property
    def name(self) -> str:
        """What clients put into ``model``."""
        return self.alias.name

    @property
    def description(self) -> str:
        """From planners.yaml."""
        return self.alias.desired.description

    @property
    def pinned(self) -> bool:
        """Whether its slot is never given to another planner."""
        return self.alias.desired.pinned

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """Its own tools, for requests that name none; empty when none are configured."""
        return self.alias.desired.tools

    @property
    def generation(self) -> int:
        """Counts the decisions about this name."""
        return self.alias.generation

    @property
    def rollout(self) -> Rollout | None:
        """How the candidate is tried; None without one."""
        return self.alias.rollout

    @property
    def previous(self) -> str | None:
        """Digest of the revision that a rollback goes to."""
        return self.alias.previous

    @property
    def state(self) -> DeploymentState:
        """Of the active deployment; FAILED for a planner that is withheld."""
        return self.active.state.FAILED if self.alias.withheld else self.active.state

    @property
    def reason(self) -> str:
        """Why it does not serve, where that is known."""
        return self.alias.withheld or self.active.reason

    @property
    def up(self) -> bool:
        """Whether its name answers requests, at once or after its adapter was loaded again."""
        return self.state in UP or self.state is self.state.EVICTED

    @property
    def answers(self) -> bool:
        """Whether requests can count on it: not while evicted with a reason, as the last load failed."""
        return self.up and not (self.state is self.state.EVICTED and self.active.reason)

    @property
    def revision(self) -> Revision:
        """The active one."""
        return self.active.revision

    @property
    def slot(self) -> Slot | None:
        """Of the active deployment."""
        return self.active.slot
