"""Harmless prompts, so that tuning refusals does not teach refusing everything. Answers come with none."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pairs import plan, shuffled
from splits import split

from training.offers import varied

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from s3lora_serve.judging.suite import Messages

_TRAIN = 1200
_EACH_TEST = 25
PLANS_TESTED = 60  # the first test questions of each plan set are asked for plans, so chats take later ones


@dataclass(frozen=True)
class Prompts:
    """Questions to train and to report on; no question is in both, nor in another set's other part."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@cache
def load(folder: Path) -> Prompts:
    """HotpotQA, GSM8K and StrategyQA in both parts; sports and physics of BIG-bench in the test only.

    BIG-bench asks, by the canary in its files, not to be trained on.
    """
    hotpot, gsm8k = (split(name, folder) for name in ("hotpot", "gsm8k"))
    planned = {_key(e.task) for e in (*hotpot.train, *hotpot.dev, *hotpot.test)}
    rows = json.loads((folder / "agent/fireact/strategyqa_dev.json").read_text(encoding="utf-8"))
    strategy = [q for q in shuffled(row["question"].strip() for row in rows) if _key(q) not in planned]
    tested = slice(PLANS_TESTED, PLANS_TESTED + _EACH_TEST)
    test = [
        *(e.task for e in hotpot.test[tested]),
        *(e.task for e in gsm8k.test[tested]),
        *strategy[:_EACH_TEST],
        *_big_bench(folder / "agent/rewoo", _EACH_TEST),
    ]
    held_out = {_key(e.task) for known in (hotpot, gsm8k) for e in (*known.dev, *known.test)}
    held_out |= {_key(prompt) for prompt in test}
    train = [*strategy[_EACH_TEST:], *(e.task for e in hotpot.train)]
    train = [prompt for prompt in train if _key(prompt) not in held_out]
    train += [e.task for e in gsm8k.train if _key(e.task) not in held_out][: _TRAIN - len(train)]
    return Prompts(shuffled(train), shuffled(test))


def planner_prompts(folder: Path, seed: int) -> list[Messages]:
    """Each question that plans are trained on as a planner's task, with varied tools."""
    rng = random.Random(f"harmless:{seed}")
    return [plan(e.task, varied("hotpot", rng).tools) for e in split("hotpot", folder).train]


def _big_bench(folder: Path, count: int) -> list[str]:
    sports = json.loads((folder / "sports_understanding.json").read_text(encoding="utf-8"))
    physics = json.loads((folder / "physics_question.json").read_text(encoding="utf-8"))
    statements = shuffled(_inputs(sports["examples"]))[: count // 2]
    asked = [f"{sports['task_prefix'].strip()} {statement}" for statement in statements]
    return [*asked, *shuffled(_inputs(physics["examples"]))[: count - len(asked)]]


def _inputs(examples: Iterable[dict[str, str]]) -> Iterable[str]:
    return (text for example in examples if (text := example["input"].strip()))


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
