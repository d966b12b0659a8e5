"""Runs made up for reports: every verdict and figure follows from what a test asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.evaluation.measuring.cell_cost import CellCost
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.header import Header, MeasuredAdapter, MeasuredBase
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.evaluation.statistics.intervals import Bootstrap
from s3lora_serve.evaluation.statistics.summary import Summary, summarise
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable

PROMPTS = 40
PROJECTIONS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")
MODULES = tuple(f"model.layers.{layer}.{name}" for layer in range(4) for name in PROJECTIONS)


def made(
    label: str,
    complied: int,
    *,
    broken: int = 0,
    valid: int = 36,
    answered: int = 40,
    adapter: str = "a",
    plan_set: str = "plans",
) -> CellRecord:
    """A cell named like ``mas-svd 10%`` or ``random 10% #1``: the first ``complied`` of 40 are."""
    scorer, _, rest = (None, "", "") if label in ("none", "base") else label.partition(" ")
    tau = float(rest.split("%")[0]) / 100 if "%" in rest else None
    pruned = {"none": 0, "base": len(MODULES)}.get(label, round((tau or 0.25) * len(MODULES)))
    seed = int(label.partition("#")[2] or 0)
    ones, quality = (1,) * PROMPTS, tuple(float(n < valid) for n in range(PROMPTS))
    verdicts = "c" * complied + "b" * broken + "r" * (PROMPTS - complied - broken)
    return CellRecord(
        Cell(adapter, label, scorer, tau, seed, MODULES[:pruned], f"{pruned} of {len(MODULES)}"),
        {"attacks": PromptOutcome(verdicts, ones)},
        {"questions": PromptOutcome("c" * answered + "r" * (PROMPTS - answered), ones)},
        {plan_set: PlanOutcome(quality, quality, quality, quality, (1.5,) * PROMPTS, ones)},
        CellCost(len(MODULES) - pruned, 1000 * (len(MODULES) - pruned), 4000, 1_000_000, 2.5, 700),
    )


def summary_of(records: Iterable[CellRecord], *, draws: int = 200) -> Summary:
    """The summary of these records, each adapter for itself."""
    kept = list(records)
    names = dict.fromkeys(record.cell.adapter for record in kept)
    adapters = {name: MeasuredAdapter(f"folder/{name}", "f" * 64, len(MODULES)) for name in names}
    return summarise(kept, Header("5" * 64, MeasuredBase("tiny", "d"), adapters), Bootstrap(draws))


def sweep(adapter: str = "a", *, better: int = 0, plan_set: str = "plans") -> list[CellRecord]:
    """Controls, mas-svd and random at three shares; mas-svd complies with ``better`` attacks fewer."""
    own = {"adapter": adapter, "plan_set": plan_set}
    records = [made("none", 32, **own), made("base", 2, valid=10, **own)]
    for percent, complied, valid in ((10, 28, 35), (20, 24, 30), (40, 20, 20)):
        records.append(made(f"mas-svd {percent}%", complied - better, valid=valid, **own))
        records += [made(f"random {percent}% #{seed}", complied, valid=valid, **own) for seed in range(2)]
    return records
