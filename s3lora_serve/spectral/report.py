"""What scoring found, one row per module, keyed by module name."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class ModuleRow:
    """One adapted linear layer."""

    module: str  # dotted base-model path
    shape: tuple[int, int]  # (out, in)
    rank: int
    scaling: float
    norm: float  # Frobenius norm of ΔW
    ssi: float | None  # MAS-SVD's σ₁/Σσ; None when ΔW = 0
    score: float | None  # the scorer's, higher is riskier; None when there is nothing to score
    sigma: tuple[float, ...]  # MAS-SVD spectrum, descending
    inert: bool  # ΔW = 0


@dataclass(frozen=True)
class SsiSpread:
    """SSI over an adapter's modules; None for each figure when all of them are inert."""

    min: float | None
    median: float | None
    max: float | None
    mean: float | None
    modules: int
    inert: int


@dataclass(frozen=True)
class SpectralReport:
    """Scores of one adapter: ``report["model.layers.3.self_attn.q_proj"].ssi``."""

    scorer: str
    version: str
    rows: Mapping[str, ModuleRow]

    def __getitem__(self, module: str) -> ModuleRow:
        return self.rows[module]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"SpectralReport({self.scorer!r}, {len(self)} modules)"

    def summary(self) -> SsiSpread:
        """SSI's range over the modules that change anything."""
        ssi = [row.ssi for row in self.rows.values() if row.ssi is not None]
        inert = sum(row.inert for row in self.rows.values())
        if not ssi:
            return SsiSpread(None, None, None, None, len(self), inert)
        return SsiSpread(min(ssi), statistics.median(ssi), max(ssi), statistics.fmean(ssi), len(self), inert)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives back an equal report."""
        rows = [
            {**vars(row), "shape": list(row.shape), "sigma": list(row.sigma)} for row in self.rows.values()
        ]
        return {"scorer": self.scorer, "version": self.version, "modules": rows}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SpectralReport:
        """The report that ``to_json`` described. Raises ``KeyError`` or ``TypeError`` for anything else."""
        rows = (
            ModuleRow(**{**row, "shape": (row["shape"][0], row["shape"][1]), "sigma": tuple(row["sigma"])})
            for row in data["modules"]
        )
        return cls(data["scorer"], data["version"], {row.module: row for row in rows})
