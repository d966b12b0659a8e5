"""A deployment: one revision of one planner, and how far it has come in the engine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.errors import TransitionError
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.fleet.states import TRANSITIONS, DeploymentState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Slot
    from s3lora_serve.fleet.proof import Effect, Proof

__all__ = ["Deployment", "DeploymentState"]


@dataclass(frozen=True)
class Deployment:
    """One revision of one planner. A new state is a new value, see ``to``."""

    planner: str
    revision: Revision
    state: DeploymentState = DeploymentState.ADMITTED
    slot: Slot | None = None  # None while not loaded, and for good when the base model answers
    proofs: Mapping[str, Proof] = field(default_factory=dict)  # by check, of what it passed last
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage: load, and each check
    reason: str = ""  # why it failed

    @cached_property
    def key(self) -> str:
        """``planner@sha12``: what a live deployment is known by, and the name of its slot."""
        return slot_name(self.planner, self.revision.digest)

    @property
    def effect(self) -> Effect | None:
        """How far the adapter moves the base model, as a check measured it."""
        return next((proof.effect for proof in self.proofs.values() if proof.effect is not None), None)

    @property
    def served_by(self) -> Literal["adapter", "base"]:
        """``base`` when every module was pruned: then the base model answers under the planner's name."""
        return "base" if self.revision.fully_pruned else "adapter"

    def model(self, base_model: str) -> str:
        """What the engine's OpenAI routes know it by while it is loaded: its slot's name, or the base's."""
        return self.slot.name if self.slot else base_model

    def to(self, state: DeploymentState, **changes: Any) -> Deployment:
        """This deployment one step further. Raises TransitionError for a step not in ``TRANSITIONS``."""
        if state not in TRANSITIONS[self.state]:
            allowed = ", ".join(sorted(TRANSITIONS[self.state])) or "none, it is final"
            raise TransitionError(f"{self.key} cannot go from {self.state} to {state}; allowed: {allowed}")
        return dataclasses.replace(self, state=state, **changes)

    def passed(self, check: str, proof: Proof) -> Deployment:
        """This deployment with what a check found of it."""
        return dataclasses.replace(self, proofs={**self.proofs, check: proof})

    def took(self, stage: str, seconds: float) -> Deployment:
        """This deployment with the duration of one stage noted."""
        return dataclasses.replace(self, seconds={**self.seconds, stage: seconds})
