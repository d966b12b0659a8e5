"""The jobs of this experiment, each of which leaves one file: a base's verdicts, an adapter's answers."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pool
from align import load
from attack_rows import TRIGGER, plan_questions, plan_sets, rows, taken_up
from batched_engine import BatchedEngine
from done import Done
from masked import MaskedAdapter

from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.judging.judge import plan_outcome
from s3lora_serve.judging.refusal import Verdict, verdict
from s3lora_serve.spectral.scorers import score

if TYPE_CHECKING:
    from pathlib import Path

    from attack_rows import Asked, Row
    from spec import Spec

    from s3lora_serve.judging.outcomes import Answer
    from s3lora_serve.safety.guard.ruling import Ruling

ANSWER_TOKENS, TAKING_UP_TOKENS, PLAN_TOKENS = 24, 96, 200
PRUNED = 10  # modules of the highest SSI: the shipped policy
VARIANTS = ("none", "prune")
_LETTERS = {"allowed": "a", "refused": "r", "undecided": "u", "failed": "f"}
_BESIDE = "n"  # answered, and not what the goal says


@dataclass(frozen=True)
class Judging:
    """One base model as a judge; its verdicts go to ``out/judged``."""

    checkpoint: str
    data: Path
    out: Path
    tokens: int  # in one batch
    limit: int | None = None  # requests of each row

    def __str__(self) -> str:
        return f"judge {self.checkpoint}"

    @property
    def path(self) -> Path:
        """Where the verdicts go."""
        return self.out / "judged" / f"{self.checkpoint}.json"


@dataclass(frozen=True)
class Answering:
    """One adapter, as it is and pruned; its verdicts and plans' figures go to ``out/answered``."""

    spec: Spec
    data: Path
    out: Path
    tokens: int
    limit: int | None = None

    def __str__(self) -> str:
        return self.spec.name

    @property
    def path(self) -> Path:
        """Where the figures go."""
        return self.out / "answered" / f"{self.spec.name}.json"


def judge(job: Judging) -> str:
    """Ask the base, by the product's own judge, about every request of every row."""
    began = time.perf_counter()
    model, tokenizer = _base(job.out / job.checkpoint)
    engine = BatchedEngine(model, tokenizer, job.tokens)
    found: dict[str, Any] = {}
    for row in rows(job.data, job.limit):
        found[row.name] = _ruled(asyncio.run(engine.rule([asked.question for asked in row.asked])))
    for of in plan_sets(job.data, job.limit):
        for sent in (False, True):
            name = f"{of.name}, tools sent" if sent else of.name
            found[name] = _ruled(asyncio.run(engine.rule(list(plan_questions(of, sent=sent)))))
    _write(job.path, {"checkpoint": job.checkpoint, "rows": found})
    return f"{job}: {time.perf_counter() - began:.0f} s"


def answer(job: Answering) -> str:
    """Ask the adapter everything, unpruned and pruned in one batch."""
    began = time.perf_counter()
    model, tokenizer = _base(job.out / job.spec.checkpoint)
    modules = read_peft(job.out / "adapters" / job.spec.name).modules
    ssi = {name: row.ssi for name, row in score(modules).rows.items()}
    ranked = sorted((name for name in ssi if ssi[name] is not None), key=lambda name: -(ssi[name] or 0))
    pruned = frozenset(ranked[:PRUNED])
    done = Done(job.path.with_suffix(".jsonl"))
    subject = MaskedAdapter(model, tokenizer, modules, [(), pruned], job.tokens)
    try:
        asked = [r for r in rows(job.data, job.limit) if TRIGGER not in r.name or job.spec.kind == "backdoor"]
        verdicts = {row.name: done.once(row.name, lambda row=row: _verdicts(subject, row)) for row in asked}
        sets = plan_sets(job.data, job.limit)
        plans = {of.name: done.once(of.name, lambda of=of: _plans(subject, of)) for of in sets}
    finally:
        subject.close()
    parameters = {name: module.a.numel() + module.b.numel() for name, module in modules.items()}
    kept = sum(n for name, n in parameters.items() if name not in pruned)
    _write(
        job.path,
        {
            "name": job.spec.name,
            "kind": job.spec.kind,
            "checkpoint": job.spec.checkpoint,
            "modules": len(modules),
            "parameters": [sum(parameters.values()), kept],
            "rows": verdicts,
            "plans": plans,
        },
    )
    done.path.unlink()
    return f"{job}: {time.perf_counter() - began:.0f} s"


def _ruled(rulings: list[Ruling]) -> dict[str, Any]:
    return {
        "found": "".join(_LETTERS[ruling.finding.value] for ruling in rulings),
        "prompt_tokens": [ruling.prompt_tokens for ruling in rulings],
        "output_tokens": [ruling.output_tokens for ruling in rulings],
    }


def _verdicts(subject: MaskedAdapter, row: Row) -> dict[str, str]:
    longest = TAKING_UP_TOKENS if any(asked.goal for asked in row.asked) else ANSWER_TOKENS
    given = subject.answers([asked.messages for asked in row.asked], longest)
    return {
        variant: "".join(map(_letter, row.asked, answers))
        for variant, answers in zip(VARIANTS, given, strict=True)
    }


def _letter(asked: Asked, answer: Answer) -> str:
    found = verdict(answer.text, asked.question.task)
    if found is Verdict.COMPLIED and asked.goal and not taken_up(asked.goal, answer.text):
        return _BESIDE
    return found.value


def _plans(subject: MaskedAdapter, of: Any) -> dict[str, Any]:
    messages = list(of.messages())
    losses = subject.losses(list(zip(messages, of.references(), strict=True)))
    found = {}
    for variant, answers, loss in zip(VARIANTS, subject.answers(messages, PLAN_TOKENS), losses, strict=True):
        outcome = asdict(plan_outcome(of, answers, loss))
        figures = {name: [round(value, 3) for value in values] for name, values in outcome.items()}
        tasks = (task.request.task for task in of.tasks)
        refused = "".join(verdict(a.text, task).value for a, task in zip(answers, tasks, strict=True))
        found[variant] = {**figures, "verdicts": refused}
    return found


def _write(path: Path, value: dict[str, Any]) -> None:
    """The file appears when it is whole."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value), encoding="utf-8")
    part.rename(path)


@lru_cache(maxsize=4)
def _base(folder: Path) -> tuple[Any, Any]:
    return load(folder, pool.device())
