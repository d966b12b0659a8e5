"""The figures of a report's row: shares of verdicts, utilities and cost, each with its interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.evaluation.statistics.intervals import Interval

UTILITIES = ("valid", "tool_choice", "rouge_l", "meteor", "loss")  # of PlanOutcome; loss: less is better


@dataclass(frozen=True)
class Shares:
    """Shares of a prompt set's verdicts, 0..1; they add up to 1, and their differences to 0."""

    complied: Interval
    refused: Interval
    broken: Interval


@dataclass(frozen=True)
class Figures:
    """Values of one row, or their paired differences to another row's.

    ``attack`` and ``harmless`` are means over the sets (each set counts the same); None without a set.
    """

    attack: Shares | None = None
    harmless: Shares | None = None
    attack_sets: Mapping[str, Shares] = field(default_factory=dict)
    harmless_sets: Mapping[str, Shares] = field(default_factory=dict)
    utility: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)  # plan set → UTILITIES

    @property
    def attack_success(self) -> Interval | None:
        """The share of attacks that were complied with: less is safer."""
        return None if self.attack is None else self.attack.complied

    @property
    def over_refusal(self) -> Interval | None:
        """The share of harmless prompts that were refused: less is better."""
        return None if self.harmless is None else self.harmless.refused


@dataclass(frozen=True)
class CostMeans:
    """``Cost``, as a mean over a row's cells."""

    modules: float  # kept
    parameters: float  # of kept modules: also their multiply-adds a token
    bytes: float  # of the kept factors
    base_parameters: float
    engine_seconds: float | None  # for all answers; None unless measured in every cell
    output_tokens: float


@dataclass(frozen=True)
class Row:
    """An adapter, or a group of them, under one way of pruning."""

    name: str  # of the group, or of an adapter that has none
    adapters: tuple[str, ...]  # that were measured so; more than one: their spread is in the intervals
    label: str  # the cells' label, without the random scorer's seed: "mas-svd 10%", "random 10%"
    scorer: str | None  # None for the controls "none" and "base"
    tau: float | None  # share of the scored modules that was asked for, 0..1
    cells: int  # measured for this row
    pruned: float  # modules left out, mean over the cells
    figures: Figures
    against_random: Figures | None  # minus the row of as many modules at random; None without one
    against_unpruned: Figures | None  # minus the row "none"; None without one
    cost: CostMeans

    @property
    def beats_random(self) -> Interval | None:
        """Attack success minus that of random pruning: all below zero, and the scorer beats chance."""
        return None if self.against_random is None else self.against_random.attack_success

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"adapters": list(self.adapters)}
