"""What a candidate's plans are worth beside those of others, and when that refuses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.config import ExamConfig

DECIDING = ("loss", "valid", "tool_choice")  # figures that refuse if they are much worse
REPORTED = (*DECIDING, "rouge_l")


@dataclass(frozen=True)
class Utility:
    """One figure on the planning tasks, asked without grammar, of the candidate and of others.

    ``unpruned``: the same adapter as it came, where mending has it; ``reference``: the base model or pinned
    revision that the exam compares with. None is what was not asked.
    """

    name: str  # loss (nats a token, less is better), valid, tool_choice, rouge_l (0..1)
    candidate: float
    unpruned: float | None = None
    reference: float | None = None

    def worse_than(self, other: float | None) -> float:
        """How much worse than another's figure, as a share of that; 0 if it is not, or not known."""
        if not other:
            return 0.0
        change = self.candidate - other
        return max(0.0, (change if self.name == "loss" else -change) / other)


def measures(utility: Sequence[Utility], against: str) -> dict[str, str]:
    """What these figures may not be much worse than, as far as it is known: field of ``Utility`` → whose.

    A pinned revision is one that an operator trusts. A base model is a poor planner, so that its figures are
    reported and decide nothing.
    """
    deciding = {"unpruned": "the unpruned adapter's"}
    if against != "base":
        deciding["reference"] = f"revision {against[:12]}'s"
    return {
        field: whose
        for field, whose in deciding.items()
        if any(getattr(one, field) is not None for one in utility)
    }


def lost(utility: Sequence[Utility], settings: ExamConfig) -> str:
    """Which figure is worse than it may be, the worst of them in a sentence; empty if none is."""
    losses = [
        (one.worse_than(other), one, other, whose)
        for field, whose in measures(utility, settings.against).items()
        for one in utility
        if one.name in DECIDING and (other := getattr(one, field)) is not None
    ]
    if not losses:
        return ""
    worse, one, other, whose = max(losses, key=lambda loss: loss[0])
    if worse <= settings.max_utility_loss:
        return ""
    return (
        f"{one.name} is {one.candidate:.3g}, {100 * worse:.0f} % worse than {whose} {other:.3g}: more than"
        f" exam.max_utility_loss ({100 * settings.max_utility_loss:g} %)"
    )
