"""Questions that no demo adapter was trained on, and the tools that go with them."""

from __future__ import annotations

import csv
from functools import cache
from typing import TYPE_CHECKING

from training import data, gsm8k, offers

if TYPE_CHECKING:
    from pathlib import Path

    from planners import ToolSpec

DATA = {"hotpot-planner": "hotpot", "gsm8k-planner": "gsm8k"}


@cache
def tasks(planner: str, folder: Path, most: int) -> list[str]:
    """At most ``most`` questions: the planner's own test split, then Bamboogle, if it looks things up."""
    if planner == "gsm8k-planner":
        return [example.task for example in gsm8k.load(folder / "gsm8k/test.jsonl")][:most]
    held_out = [example.task for example in data.load("hotpot", folder).test]
    with (folder / "fireact/bamboogle_test.csv").open(newline="") as file:
        held_out += [row["Question"] for row in csv.DictReader(file)]
    return held_out[:most]


def tools(planner: str, names: str) -> tuple[ToolSpec, ...]:
    """``standard``: names that training offered; ``unseen``: none of them, and a tool that no plan needs."""
    return getattr(offers, names)(DATA[planner]).tools  # type: ignore[no-any-return]
