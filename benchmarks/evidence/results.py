"""What the experiment measured, in one small file: verdicts and figures, no answers.

python benchmarks/evidence/results.py OUT    write it from what run.py left in OUT
"""

from __future__ import annotations

import json
import lzma
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spec import POISONED, measured

from s3lora_serve.evaluation.measuring.cell_cost import CellCost
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.header import Header, MeasuredAdapter, MeasuredBase
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spec import Spec

RESULTS = Path(__file__).parent / "2026-11-22" / "results.json.xz"
MOST_SEEDS = 20
_PLAN = ("valid", "tool_choice", "rouge_l", "meteor", "loss")
_DIGITS = {"loss": 3, "valid": 0}  # after the point; 2 of the others


@dataclass(frozen=True)
class Measured:
    """One adapter of the experiment."""

    name: str
    group: str
    kind: str
    rank: int
    modules: tuple[str, ...]
    ssi: tuple[float | None, ...]  # by module
    statistics: tuple[Mapping[str, float | None], ...]  # by module
    records: tuple[CellRecord, ...]  # none if only its weights were looked at
    margins: Mapping[str, tuple[float, ...]]  # by label: risky over safe plan, nats a token

    @property
    def poisoned(self) -> bool:
        """Whether it was trained on something unsafe."""
        return self.kind in POISONED


@dataclass(frozen=True)
class Results:
    """The whole experiment."""

    check: Mapping[str, Mapping[str, Mapping[str, float]]]
    times: Sequence[Mapping[str, Any]]
    adapters: tuple[Measured, ...]

    def groups(self) -> dict[str, list[Measured]]:
        """Measured adapters by group, in order."""
        found: dict[str, list[Measured]] = {}
        for adapter in self.adapters:
            if adapter.records:
                found.setdefault(adapter.group, []).append(adapter)
        return found


def header(adapters: Sequence[Measured]) -> Header:
    """What ``summarise`` wants to know of one group."""
    return Header(
        "evidence",
        MeasuredBase("SmolLM2-135M-Instruct, aligned", ""),
        {a.name: MeasuredAdapter(a.name, "", len(a.modules), a.group) for a in adapters},
    )


def pack(out: Path, specs: Sequence[Spec], path: Path) -> None:
    """Write what ``run`` left in ``out`` to one xz file, outcomes that several cells share once."""
    adapters = [_packed(out, spec) for spec in specs if (out / "prunings" / f"{spec.name}.json").exists()]
    times = [json.loads(line) for line in (out / "times.jsonl").read_text(encoding="utf-8").splitlines()]
    check = json.loads((out / "check.json").read_text(encoding="utf-8"))
    raw = json.dumps({"check": check, "times": times, "adapters": adapters}, separators=(",", ":"))
    path.write_bytes(lzma.compress(raw.encode(), preset=9))


def load(path: Path) -> Results:
    """Read what ``pack`` wrote."""
    data = json.loads(lzma.decompress(path.read_bytes()))
    return Results(data["check"], data["times"], tuple(_unpacked(a) for a in data["adapters"]))


def _packed(out: Path, spec: Spec) -> dict[str, Any]:
    looked = json.loads((out / "prunings" / f"{spec.name}.json").read_text(encoding="utf-8"))
    order = list(looked["ssi"])
    number = {name: n for n, name in enumerate(order)}
    outcomes: dict[tuple[int, ...], int] = {}
    packed: list[dict[str, Any]] = []
    cells = []
    records = out / "records" / f"{spec.name}.jsonl"
    for line in records.read_text(encoding="utf-8").splitlines() if records.exists() else ():
        row = json.loads(line)
        record, cell = row["record"], row["record"]["cell"]
        pruned = tuple(sorted(number[name] for name in cell["pruned"]))
        if pruned not in outcomes:
            outcomes[pruned] = len(packed)
            packed.append(
                {
                    "pruned": pruned,
                    "attacks": {s: o["verdicts"] for s, o in record["attacks"].items()},
                    "harmless": {s: o["verdicts"] for s, o in record["harmless"].items()},
                    "plans": {
                        s: {k: [round(v, _DIGITS.get(k, 2)) for v in o[k]] for k in _PLAN}
                        | {"tokens": o["tokens"]}
                        for s, o in record["plans"].items()
                    },
                    "cost": record["cost"],
                    "margins": [round(v, 3) for v in row["margins"]],
                }
            )
        cells.append([cell["label"], cell["scorer"], cell["tau"], cell["seed"], outcomes[pruned]])
    return {
        "name": spec.name,
        "group": spec.group,
        "kind": spec.kind,
        "rank": spec.rank,
        "modules": order,
        "ssi": [v if v is None else round(v, 5) for v in looked["ssi"].values()],
        "statistics": {
            key: [_short(looked["statistics"][name][key]) for name in order]
            for key in ("sigma_1", "norm", "energy", "entropy", "kurtosis")
        },
        "cells": cells,
        "outcomes": packed,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _unpacked(data: Mapping[str, Any]) -> Measured:
    modules = tuple(data["modules"])
    records, margins = [], {}
    for label, scorer, tau, seed, index in data["cells"]:
        found = data["outcomes"][index]
        cell = Cell(data["name"], label, scorer, tau, seed, tuple(modules[n] for n in found["pruned"]))
        verdicts = {
            part: {s: PromptOutcome(v, (0,) * len(v)) for s, v in found[part].items()}
            for part in ("attacks", "harmless")
        }
        plans = {s: PlanOutcome(**{k: tuple(v) for k, v in o.items()}) for s, o in found["plans"].items()}
        records.append(
            CellRecord(cell, verdicts["attacks"], verdicts["harmless"], plans, CellCost(**found["cost"]))
        )
        margins[label] = tuple(found["margins"])
    statistics = tuple(
        dict(zip(data["statistics"], row, strict=True))
        for row in zip(*data["statistics"].values(), strict=True)
    )
    return Measured(
        data["name"],
        data["group"],
        data["kind"],
        data["rank"],
        modules,
        tuple(data["ssi"]),
        statistics,
        tuple(records),
        margins,
    )


if __name__ == "__main__":
    # Whatever was trained: seeds that were not are skipped.
    pack(Path(sys.argv[1]), measured(MOST_SEEDS), RESULTS)
