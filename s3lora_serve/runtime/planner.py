"""A planner: a public name, the revision behind it, and how far that revision has come."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.errors import TransitionError
from s3lora_serve.runtime.states import TRANSITIONS, PlannerState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Slot
    from s3lora_serve.runtime.probe import Effect

__all__ = ["Planner", "PlannerState"]


@dataclass(frozen=True)
class Planner:
    """One revision of one planner. A new state is a new value, see ``to``."""

    name: str
    revision: Revision
    description: str = ""
    state: PlannerState = PlannerState.ADMITTED
    slot: Slot | None = None  # None before loading, and for good when the base model answers
    effect: Effect | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)  # by stage: load, probe
    reason: str = ""  # why it failed

    @property
    def up(self) -> bool:
        """Whether its name answers requests."""
        return self.state is PlannerState.SERVING

    @property
    def served_by(self) -> Literal["adapter", "base"]:
        """``base`` when every module was pruned: then the base model answers under the planner's name."""
        return "base" if self.revision.fully_pruned else "adapter"

    def to(self, state: PlannerState, **changes: Any) -> Planner:
        """This planner one step further. Raises TransitionError for a step that is not in ``TRANSITIONS``."""
        if state not in TRANSITIONS[self.state]:
            allowed = ", ".join(sorted(TRANSITIONS[self.state])) or "none, it is final"
            raise TransitionError(
                f"planner {self.name!r} cannot go from {self.state} to {state}; allowed: {allowed}"
            )
        return dataclasses.replace(self, state=state, **changes)

    def took(self, stage: str, seconds: float) -> Planner:
        """This planner with the duration of one stage noted."""
        return dataclasses.replace(self, seconds={**self.seconds, stage: seconds})
