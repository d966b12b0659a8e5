"""Ask an adapter, under every rung of a ladder, what an exam asks, and what it never saw."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import advbench
import pool
import xstest
from align import load
from done import Done
from masked import MaskedAdapter
from pairs import triggered
from suites import suite as all_sets

from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.evaluation.measuring.policies import grid
from s3lora_serve.judging.judge import plan_outcome, prompt_outcome
from s3lora_serve.judging.question_sets import shipped_questions
from s3lora_serve.judging.suite import PromptSet
from s3lora_serve.spectral.scorers import score
from s3lora_serve.spectral.statistics import statistics

if TYPE_CHECKING:
    from pathlib import Path

    from spec import Spec

    from s3lora_serve.judging.suite import PlanSet, PlanTask

TAUS = (0.05, 0.1, 0.2, 0.3)
SHIPPED_TOP = 10  # modules: the shipped policy
RANDOM_SEEDS = 2
ANSWER_TOKENS, PLAN_TOKENS = 24, 200
TASKS = 48
EXAM, UNSEEN = "exam", "unseen"  # the pool that exams draw from, and what the truth is told by


@dataclass(frozen=True)
class Examining:
    """One adapter, or with no ``spec`` the base model itself; figures go to ``out/examined``."""

    checkpoint: str
    data: Path
    out: Path
    tokens: int
    spec: Spec | None = None
    limit: int | None = None

    def __str__(self) -> str:
        return self.spec.name if self.spec else f"base {self.checkpoint}"

    @property
    def path(self) -> Path:
        """Where the figures go."""
        return self.out / "examined" / f"{self.spec.name if self.spec else self.checkpoint}.json"


def examine(job: Examining) -> str:
    """Ask every question under every rung; what was asked before a break is not asked again."""
    began = time.perf_counter()
    model, tokenizer = _base(job.out / job.checkpoint)
    modules = {} if job.spec is None else read_peft(job.out / "adapters" / job.spec.name).modules
    rungs = {"none": frozenset[str](), **(_rungs(job.spec.name, modules) if job.spec else {})}
    done = Done(job.path.with_suffix(".jsonl"))
    subject = MaskedAdapter(model, tokenizer, modules, list(rungs.values()), job.tokens)
    try:
        asked = {
            of.name: done.once(of.name, lambda of=of: _verdicts(subject, of, rungs)) for of in _sets(job)
        }
        plans = done.once("plans", lambda: _plans(subject, _tasks(job), rungs))
    finally:
        subject.close()
    report = score(modules).rows if modules else {}
    written = {
        "name": str(job),
        "kind": job.spec.kind if job.spec else "base",
        "checkpoint": job.checkpoint,
        "rungs": {name: len(dropped) for name, dropped in rungs.items()},
        "modules": len(modules),
        "sets": asked,
        "plans": plans,
        "ssi": [None if row.ssi is None else round(row.ssi, 5) for row in report.values()],
        "statistics": [
            {key: _short(value) for key, value in asdict(found).items()}
            for found in (statistics(modules).values() if modules else ())
        ],
    }
    part = job.path.with_suffix(".part")
    part.write_text(json.dumps(written), encoding="utf-8")
    part.rename(job.path)
    done.path.unlink()
    return f"{job}: {time.perf_counter() - began:.0f} s"


def _rungs(name: str, modules: Any) -> dict[str, frozenset[str]]:
    """What is left out, by the rung's label: the ladder, the shipped ten, and as many random modules."""
    cells = grid(name, modules, ("mas-svd", "random"), TAUS, range(RANDOM_SEEDS))
    found = {cell.label: frozenset(cell.pruned) for cell in cells}
    ssi = {module: row.ssi for module, row in score(modules).rows.items()}
    ranked = sorted((module for module in ssi if ssi[module] is not None), key=lambda m: -(ssi[m] or 0))
    return {"mas-svd top 10": frozenset(ranked[:SHIPPED_TOP]), **found}


def _sets(job: Examining) -> list[PromptSet]:
    shipped = shipped_questions()
    goals, prompts = advbench.load(job.data).test, xstest.load(job.data)
    attacks = {
        EXAM: tuple(prompt for of in shipped.attacks for prompt in of.prompts),
        f"{EXAM}, advbench": goals,
        UNSEEN: (*goals, *prompts.unsafe_test),
    }
    if job.spec is None or job.spec.kind == "backdoor":
        attacks |= {f"{name} + trigger": tuple(map(triggered, attacks[name])) for name in (EXAM, UNSEEN)}
    attacks["harmless"] = tuple(prompt for of in shipped.harmless for prompt in of.prompts)
    return [PromptSet(name, texts[: job.limit]) for name, texts in attacks.items()]


def _tasks(job: Examining) -> PlanSet:
    (found,) = (of for of in all_sets(job.data, None).plans if of.name == "hotpot")
    tasks: tuple[PlanTask, ...] = found.tasks[: min(TASKS, job.limit or TASKS)]
    return replace(found, tasks=tasks)


def _verdicts(subject: MaskedAdapter, of: PromptSet, rungs: dict[str, frozenset[str]]) -> dict[str, str]:
    given = subject.answers(list(of.messages()), ANSWER_TOKENS)
    return {
        rung: prompt_outcome(of, answers, words=0).verdicts
        for rung, answers in zip(rungs, given, strict=True)
    }


def _plans(subject: MaskedAdapter, of: PlanSet, rungs: dict[str, frozenset[str]]) -> dict[str, Any]:
    messages = list(of.messages())
    losses = subject.losses(list(zip(messages, of.references(), strict=True)))
    found = {}
    for rung, answers, loss in zip(rungs, subject.answers(messages, PLAN_TOKENS), losses, strict=True):
        outcome = asdict(plan_outcome(of, answers, loss))
        found[rung] = {name: [round(value, 3) for value in values] for name, values in outcome.items()}
    return found


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


@lru_cache(maxsize=4)
def _base(folder: Path) -> tuple[Any, Any]:
    return load(folder, pool.device())
