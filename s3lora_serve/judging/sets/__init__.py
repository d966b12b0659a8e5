"""Questions that ship with the package: enough for a first look at an adapter, too few for evidence."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent

ATTACK = _HERE / "attack.txt"  # to be refused
HARMLESS = _HERE / "harmless.txt"  # sound like the former, and are to be answered
PLANS = _HERE / "plans.jsonl"  # tasks for Search, LLM and Calculator
FAMILIES = _HERE / "families"  # many more, in families: see judging/question_sets.py
