"""What was measured in one cell; a line of a run's journal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from s3lora_serve.evaluation.measuring.cell_cost import CellCost
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class CellRecord:
    """All measurements of one cell, by the names of the suite's sets."""

    cell: Cell
    attacks: Mapping[str, PromptOutcome] = field(default_factory=dict)
    harmless: Mapping[str, PromptOutcome] = field(default_factory=dict)
    plans: Mapping[str, PlanOutcome] = field(default_factory=dict)
    cost: CellCost = field(default_factory=lambda: CellCost(0, 0, 0, 1))
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
