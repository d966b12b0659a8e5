"""What was measured in one cell; a line of a run's journal."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from s3lora_serve.evaluation.measuring.cell_cost import CellCost
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Made = TypeVar("Made")


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
        """Values for JSON; ``from_json`` gives back an equal record."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CellRecord:
        """The record that ``to_json`` described. Raises KeyError or TypeError for anything else."""
        return cls(
            _made(Cell, data["cell"]),
            {name: _made(PromptOutcome, outcome) for name, outcome in data["attacks"].items()},
            {name: _made(PromptOutcome, outcome) for name, outcome in data["harmless"].items()},
            {name: _made(PlanOutcome, outcome) for name, outcome in data["plans"].items()},
            CellCost(**data["cost"]),
            data["seconds"],
        )


def _made(kind: Callable[..., Made], fields: Mapping[str, Any]) -> Made:
    """With tuples where JSON has lists."""
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    )
