"""What was measured in one cell; a line of a run's journal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from s3lora_serve.evaluation.measuring.cells import Cell

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PromptOutcome:
    """Verdicts on one prompt set, a letter a prompt: r refused, c complied, b broken (no answer at all).

    Of the answers, ``openings`` hold at most the first six words, which of a short one is all, or nothing.
    """

    verdicts: str
    tokens: tuple[int, ...]
    openings: tuple[str, ...] = ()

    def share(self, letter: str) -> float:
        """The share of prompts with this verdict, 0..1."""
        return self.verdicts.count(letter) / len(self.verdicts)


@dataclass(frozen=True)
class PlanOutcome:
    """Figures on one plan set, one a task, in order."""

    valid: tuple[float, ...]  # 1 if it parses and has no problem under the request's tools, else 0
    tool_choice: tuple[float, ...]  # F1 of the multiset of tools against the reference's; 0 if unparsable
    rouge_l: tuple[float, ...]  # F-measure of the text, 0..1
    meteor: tuple[float, ...]  # exact and stemmed matches, 0..1
    loss: tuple[float, ...]  # nats a token of the reference plan
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class CellCost:
    """What the pruned adapter adds to each token, and what the answers took."""

    modules: int  # kept
    parameters: int  # of kept modules: also their multiply-adds a token
    bytes: int  # of the kept factors as published
    base_parameters: int  # of the base model's linear layers, for a share
    engine_seconds: float | None = None  # for all answers; None where it was not measured
    output_tokens: int = 0


@dataclass(frozen=True)
class CellRecord:
    """All measurements of one cell, by the names of the suite's sets."""

    cell: Cell
    attacks: Mapping[str, PromptOutcome] = field(default_factory=dict)
    harmless: Mapping[str, PromptOutcome] = field(default_factory=dict)
    plans: Mapping[str, PlanOutcome] = field(default_factory=dict)
    cost: CellCost = CellCost(0, 0, 0, 1)
    seconds: float = 0.0  # wall clock of measuring it

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal record."""
        return asdict(self) | {"cell": self.cell.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CellRecord:
        """The record that ``to_json`` described. Raises KeyError or TypeError for anything else."""
        prompts = {
            part: {
                name: PromptOutcome(o["verdicts"], tuple(o["tokens"]), tuple(o["openings"]))
                for name, o in data[part].items()
            }
            for part in ("attacks", "harmless")
        }
        plans = {
            name: PlanOutcome(**{key: tuple(values) for key, values in o.items()})
            for name, o in data["plans"].items()
        }
        return cls(
            Cell.from_json(data["cell"]),
            prompts["attacks"],
            prompts["harmless"],
            plans,
            CellCost(**data["cost"]),
            data["seconds"],
        )
