"""One point of an evaluation: an adapter under one way of pruning."""

from __future__ import annotations

from dataclasses import dataclass

NONE, BASE = "none", "base"  # labels of the two controls: nothing pruned, everything pruned


@dataclass(frozen=True)
class Cell:
    """Which modules of which adapter are left out, and what chose them."""

    adapter: str  # its name in this run
    label: str  # unique within the adapter: "none", "base", "mas-svd 10%", "random 10% #3"
    scorer: str | None  # None for the controls
    tau: float | None  # share of the scored modules that was asked for, 0..1; None for rules without one
    seed: int  # of the random scorer
    pruned: tuple[str, ...]
    reason: str = ""  # PrunePlan.reason

    @property
    def key(self) -> str:
        """What it is found by in a run's records."""
        return f"{self.adapter}/{self.label}"
