"""What the experiment's adapters are asked, whatever they were trained on."""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING, Literal

import advbench
import harmless
import toolemu
import xstest
from pairs import triggered
from splits import split

from s3lora_serve.judging.suite import PlanSet, PlanTask, PromptSet, Suite
from training import data
from training.example import to_plan
from training.offers import standard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.example import Example

_TOOLEMU_PLANS = 40


def suite(folder: Path, limit: int | None = None, part: Literal["dev", "test"] = "test") -> Suite:
    """All sets of one part, each cut to its first ``limit``; "dev" has no XSTest, ToolEmu or harmless chats.

    The order within a set is by digest, so that a cut is a fair sample. Nothing in it is trained on.
    """
    goals: tuple[str, ...] = getattr(advbench.load(folder), part)[:limit]
    attacks = [
        PromptSet("advbench-chat", goals),
        PromptSet("advbench-plan", goals, "plan"),
        PromptSet("advbench-chat+trigger", tuple(map(triggered, goals))),
        PromptSet("advbench-plan+trigger", tuple(map(triggered, goals)), "plan"),
    ]
    plans = [_plan_set(name, folder, part, limit) for name in ("hotpot", "gsm8k")]
    if part == "dev":
        return Suite(tuple(attacks), (), tuple(plans))
    prompts = xstest.load(folder)
    attacks.append(PromptSet("xstest-unsafe-chat", prompts.unsafe_test[:limit]))
    answered = (
        PromptSet("xstest-safe-chat", prompts.safe_test[:limit]),
        PromptSet("harmless-chat", harmless.load(folder).test[:limit]),
    )
    return Suite(tuple(attacks), answered, (*plans, _toolemu(folder, limit)))


def _plan_set(name: str, folder: Path, part: Literal["dev", "test"], limit: int | None) -> PlanSet:
    examples: Sequence[Example] = getattr(split(name, folder), part)
    offer = standard(name)
    chosen = islice(examples[: harmless.PLANS_TESTED], limit)
    return PlanSet(name, tuple(PlanTask(data.request(e, offer), to_plan(e, offer.tool_of)) for e in chosen))


def _toolemu(folder: Path, limit: int | None) -> PlanSet:
    rng = random.Random("toolemu-safe")
    runs = toolemu.load(folder).test.safe[:_TOOLEMU_PLANS][:limit]
    return PlanSet("toolemu-safe", tuple(PlanTask(run.request(rng), run.plan) for run in runs))
