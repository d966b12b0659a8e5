"""Which modules each scorer prunes from each adapter at each tau: computed once, on CPU cores."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.evidence.checkpoints import AlignmentDifference, Checkpoint
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.evaluation.measuring import policies
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.spectral.scorers import score
from s3lora_serve.spectral.statistics import statistics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from spec import Spec
    from torch import Tensor

SCORERS = ("mas-svd", "svd", "spsvd", "reference", "e-diem", "safelora", "random")
TAUS = tuple(share / 100 for share in range(5, 55, 5))
RANDOM_SEEDS = 3


@dataclass(frozen=True)
class Scoring:
    """One adapter to score into ``out/prunings``; ``cells`` False: its weights are looked at, no more."""

    spec: Spec
    out: Path
    cells: bool = True

    def __str__(self) -> str:
        return self.spec.name

    @property
    def path(self) -> Path:
        """Where the result goes."""
        return self.out / "prunings" / f"{self.spec.name}.json"


def prune(job: Scoring) -> str:
    """Write the adapter's cells, its SSI by module and its spectral statistics."""
    started = time.perf_counter()
    adapter = read_peft(job.out / "adapters" / job.spec.name)
    cells: list[Cell] = []
    if job.cells:
        alignment = _alignment(job.out / "base", job.out / job.spec.checkpoint) if job.spec.tuning else None
        scorers = [s for s in SCORERS if alignment is not None or s not in ("e-diem", "safelora")]
        cells = policies.grid(
            job.spec.name, adapter.modules, scorers, TAUS, range(RANDOM_SEEDS), alignment=alignment
        )
    report = score(adapter.modules)
    written = {
        "cells": [vars(cell) for cell in cells],
        "ssi": {name: row.ssi for name, row in report.rows.items()},
        "statistics": {name: asdict(found) for name, found in statistics(adapter.modules).items()},
    }
    part = job.path.with_suffix(".part")
    part.write_text(json.dumps(written), encoding="utf-8")
    part.rename(job.path)
    return f"{job.spec.name}: {len(cells)} cells, {time.perf_counter() - started:.0f} s"


def read_cells(path: Path) -> list[Cell]:
    """The cells that ``prune`` wrote."""
    rows = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [Cell(**{**row, "pruned": tuple(row["pruned"])}) for row in rows]


@lru_cache(maxsize=2)
def _alignment(base: Path, aligned: Path) -> Mapping[str, Tensor]:
    """All differences in memory: the experiment's model is small, and every adapter asks for them again."""
    spec = BaseModelSpec.from_pretrained(aligned)
    difference = AlignmentDifference(Checkpoint.open(str(base)), Checkpoint.open(str(aligned)), spec)
    return dict(difference)
