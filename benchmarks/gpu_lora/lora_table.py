"""Timed rounds -> ratios of medians with bootstrap intervals, as Markdown. Needs neither torch nor vLLM."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from lora_cells import BASE, BATCHES, EVERYTHING, GOALS, LAYERS, ONE, PREFILL, PRUNED, SEVERAL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RESAMPLES = 2000
COLUMNS = (*BATCHES, PREFILL)
Times = dict[str, dict[int, float]]  # a cell's key -> round -> seconds


@dataclass(frozen=True)
class Ratio:
    """A ratio of two medians, its 95 % interval by the percentile bootstrap, and the repeats of the rarer
    cell."""

    value: float
    low: float
    high: float
    repeats: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"

    def meets(self, goal: float) -> bool:
        """Whether the goal is in the interval, or above it."""
        return self.low <= goal


def read(file: Path) -> tuple[Times, list[dict[str, Any]]]:
    """The times of a results file, and its other lines. The last line may be cut off: a run that was
    killed."""
    times: Times = defaultdict(dict)
    others = []
    for line in file.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if "seconds" in row and "cell" in row:
            times[row["cell"]][row["round"]] = row["seconds"]
        else:
            others.append(row)
    return dict(times), others


def ratio(of: dict[int, float], to: dict[int, float], seed: int = 0) -> Ratio:
    """Medians over the rounds that have both; rounds are drawn, so a slow one is slow in both."""
    rounds = sorted(of.keys() & to.keys())
    value = median(of[r] for r in rounds) / median(to[r] for r in rounds)
    draw, found = random.Random(seed), []
    for _ in range(RESAMPLES):
        picked = draw.choices(rounds, k=len(rounds))
        found.append(median(of[r] for r in picked) / median(to[r] for r in picked))
    found.sort()
    return Ratio(value, found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES) - 1], len(rounds))


def ratio_of(times: Times, engine: str, traffic: str, batch: int, to: str = "none") -> Ratio | None:
    """A cell's ratio to another engine's base requests; None if it was not timed."""
    of, base = times.get(f"{engine} | {traffic} | {batch}"), times.get(f"{to} | {BASE.name} | {batch}")
    return ratio(of, base) if of and base and of.keys() & base.keys() else None


def page(times: Times, others: Iterable[dict[str, Any]]) -> str:
    """The page: goals, what stock pays, what pruning pays, errors against float32, the machine."""
    lines = [
        "## Against the goals",
        "",
        "Ratio to the engine without LoRA; base requests: to the stock LoRA engine's.",
        "",
    ]
    lines += _head("ours")
    for name, goals in GOALS.items():
        cells = [_goal(times, name, batch, goals.get(batch)) for batch in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "## vLLM's own kernels", "", *_head("stock")]
    for traffic in (BASE, ONE, SEVERAL, PRUNED[1], EVERYTHING):
        lines.append(_row(times, "stock", traffic.name))
    lines += ["", "## What pruning pays", "", *_head("ours")]
    for traffic in (ONE, *PRUNED, *LAYERS, EVERYTHING):
        lines.append(_row(times, "ours", traffic.name))
    others = list(others)
    errors = [row for row in others if row.get("kind") == "float32"]
    if errors:
        lines += [
            "",
            "## Error against a float32 forward",
            "",
            "| requests | engine | mean | max | float32's own token |",
        ]
        lines.append("|---|---|---|---|---|")
        for row in errors:
            what = f"{row['requests']}, {row['traffic']}"
            lines.append(
                f"| {what} | {row['engine']} | {row['mean']:.3f} | {row['max']:.2f} | {row['argmax']:.3f} |"
            )
    lines += ["", "## The run", ""]
    lines += [
        f"- {row['engine']} engine: ready after {row['ready']:.0f} s. {row['lora']}"
        for row in others
        if row.get("kind") == "engine"
    ]
    lines += [f"- {row['name']}: {row['value']}" for row in others if row.get("kind") == "fact"]
    repeats = [len(each) for each in times.values()]
    lines.append(f"- Repeats of a cell: {min(repeats, default=0)} to {max(repeats, default=0)}.")
    return "\n".join(lines) + "\n"


def _goal(times: Times, name: str, batch: int, goal: float | None) -> str:
    found = ratio_of(times, "ours", name, batch, to="stock" if name == BASE.name else "none")
    if found is None:
        return "–"
    if goal is None:
        return str(found)
    return f"{found}, ≤ {goal:.2f} {'met' if found.meets(goal) else '**not met**'}"


def _row(times: Times, engine: str, name: str) -> str:
    return (
        f"| {name} | "
        + " | ".join(str(ratio_of(times, engine, name, batch) or "–") for batch in COLUMNS)
        + " |"
    )


def _head(engine: str) -> list[str]:
    columns = [f"{batch} in flight" for batch in BATCHES] + ["64 × 512 prefill"]
    return [f"| {engine} | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
