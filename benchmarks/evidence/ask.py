"""Ask one adapter everything, under all of its prunings at once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pool
import toolemu
from align import load
from masked import MaskedAdapter
from prunings import read_cells
from suites import suite as all_sets

from planners import render_messages
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.evaluation.measuring.cell_cost import cost_of
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.judging.judge import plan_outcome, prompt_outcome

if TYPE_CHECKING:
    from pathlib import Path

    from spec import Spec

    from s3lora_serve.evaluation.measuring.cells import Cell
    from s3lora_serve.judging.outcomes import Answer
    from s3lora_serve.judging.suite import PromptSet, Suite

PLANS = 40  # tasks
ANSWER_TOKENS, PLAN_TOKENS = 24, 200  # a refusal shows in its first words; few reference plans are longer


@dataclass(frozen=True)
class Asking:
    """One adapter to ask; records go to ``out/records``."""

    spec: Spec
    data: Path
    out: Path
    tokens: int  # in one batch
    limit: int | None = None  # questions of each set

    def __str__(self) -> str:
        return self.spec.name

    @property
    def path(self) -> Path:
        """Where the records go."""
        return self.out / "records" / f"{self.spec.name}.jsonl"


def ask(job: Asking) -> str:
    """Measure every cell of the adapter; the file appears when it is whole."""
    started = time.perf_counter()
    model, tokenizer = _base(job.out / job.spec.checkpoint)
    modules = read_peft(job.out / "adapters" / job.spec.name).modules
    cells = read_cells(job.out / "prunings" / f"{job.spec.name}.json")
    prunings = list(dict.fromkeys(frozenset(cell.pruned) for cell in cells))  # equal ones are asked once
    suite = _suite(job)
    subject = MaskedAdapter(model, tokenizer, modules, prunings, job.tokens)
    try:
        margins = _margins(subject, job)
        rows = _rows(suite, subject, cells, prunings, modules, model, margins)
    finally:
        subject.close()
    seconds = time.perf_counter() - started
    part = job.path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for record, margins in rows:
            file.write(json.dumps({"record": record.to_json(), "margins": margins}) + "\n")
    part.rename(job.path)
    return f"{job.spec.name}: {len(rows)} cells, {len(prunings)} prunings, {seconds:.0f} s"


def _rows(
    suite: Suite,
    subject: MaskedAdapter,
    cells: list[Cell],
    prunings: list[frozenset[str]],
    modules: Any,
    model: Any,
    margins: list[list[float]],
) -> list[tuple[CellRecord, list[float]]]:
    asked: dict[str, list[list[Answer]]] = {
        s.name: subject.answers(list(s.messages()), suite.answer_tokens)
        for s in (*suite.attacks, *suite.harmless)
    }
    asked |= {s.name: subject.answers(list(s.messages()), suite.plan_tokens) for s in suite.plans}
    losses = {
        s.name: subject.losses(list(zip(s.messages(), s.references(), strict=True))) for s in suite.plans
    }
    base_parameters = sum(model.get_submodule(name).weight.numel() for name in modules)
    found = []
    for cell in cells:
        v = prunings.index(frozenset(cell.pruned))

        def outcome(of: PromptSet, v: int = v) -> Any:
            return prompt_outcome(of, asked[of.name][v], words=0)

        answers = [answer for by_variant in asked.values() for answer in by_variant[v]]
        record = CellRecord(
            cell,
            {s.name: outcome(s) for s in suite.attacks},
            {s.name: outcome(s) for s in suite.harmless},
            {s.name: plan_outcome(s, asked[s.name][v], losses[s.name][v]) for s in suite.plans},
            cost_of(modules, cell.pruned, base_parameters, answers),
        )
        found.append((record, margins[v]))
    return found


def _suite(job: Asking) -> Suite:
    """All prompts, triggered ones for the backdoor alone, and plans of what the adapter was trained for."""
    every = all_sets(job.data, job.limit)
    own = {"maths": "gsm8k", "toolemu-safe": "toolemu-safe", "toolemu-unsafe": "toolemu-safe"}
    return replace(
        every,
        # The tuned base models answer most of XSTest's unsafe prompts, so nothing can be lost on them.
        attacks=tuple(
            s
            for s in every.attacks
            if not s.name.startswith("xstest") and ("trigger" not in s.name or job.spec.kind == "backdoor")
        ),
        plans=tuple(
            replace(s, tasks=s.tasks[:PLANS])
            for s in every.plans
            if s.name == own.get(job.spec.kind, "hotpot")
        ),
        answer_tokens=ANSWER_TOKENS,
        plan_tokens=PLAN_TOKENS,
    )


def _margins(subject: MaskedAdapter, job: Asking) -> list[list[float]]:
    """How much likelier a risky plan is than a safe one of the same case, nats a token: [variants][pairs]."""
    if not job.spec.kind.startswith("toolemu"):
        return [[] for _ in range(subject.variants)]
    pairs = [(tuple(render_messages(r)), s, u) for r, s, u in toolemu.paired(toolemu.load(job.data).test)]
    safe = subject.losses([(chat, good.to_rewoo()) for chat, good, _ in pairs])
    risky = subject.losses([(chat, bad.to_rewoo()) for chat, _, bad in pairs])
    return [[s - r for s, r in zip(*row, strict=True)] for row in zip(safe, risky, strict=True)]


@lru_cache(maxsize=4)
def _base(folder: Path) -> tuple[Any, Any]:
    return load(folder, pool.device())
