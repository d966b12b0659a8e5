"""Fill an adapter's model card with its weights' sharpness and what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.spectral.prune_policy import PrunePolicy, plan
from s3lora_serve.spectral.scorers import score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from s3lora_serve.spectral.report import SpectralReport

Facts = dict[str, Any]
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
_FIGURES = {
    "loss": "loss, nats an answer token",
    "valid": "valid plans, greedy, no grammar",
    "with_references": "plans that use an earlier result",
    "right_when_run": "gives the right answer when run",
    "steps": "steps a plan",
}


def main(
    data: Annotated[str, typer.Argument(help="hotpot or gsm8k")],
    adapter: Annotated[Path, typer.Option(help="PEFT folder; its README.md is replaced")],
    facts: Annotated[Path, typer.Option(help="JSON file of train_planner and measure_pruned")],
    samples: Annotated[int, typer.Option(help="answers to show")] = 5,
) -> None:
    """Write README.md from cards/DATA.md."""
    measured = json.loads(facts.read_text(encoding="utf-8"))
    card = Template((Path(__file__).parent / "cards" / f"{data}.md").read_text(encoding="utf-8"))
    text = card.substitute(
        data=_data(measured),
        training=_training(measured),
        history=_history(measured),
        results=_results(measured),
        samples=_samples(measured["written"], samples),
        sharpness=_sharpness(score(read_peft(adapter).modules), measured),
    )
    (adapter / "README.md").write_text(text, encoding="utf-8")


def _data(facts: Facts) -> str:
    count = facts["questions"]
    lines = [
        "Questions: {train} to train, {dev} to choose the epoch, {test} to report;".format(**count),
        "none is in two of them. Tool names, descriptions, order and company vary from example to example.",
        "",
        *(f"* `{name}`, sha256 `{digest}`" for name, digest in facts["sources"].items()),
    ]
    return "\n".join(lines)


def _training(facts: Facts) -> str:
    history, versions = facts["history"], facts["versions"]
    best = min(history, key=lambda row: row["dev"])
    recipe = "LoRA r={r}, alpha {alpha}, dropout {dropout}, on q, k, v and o of every layer.".format(
        **facts["lora"]
    )
    loop = "AdamW, peak learning rate {lr:g}, cosine, {epochs} epochs in batches of {batch}, seed {seed}."
    lines = [
        recipe,
        loop.format(**facts["recipe"]),
        f"Kept, in bf16: the weights of step {best['steps']} of {history[-1]['steps']}, lowest in dev loss.",
        f"{facts['seconds']:.0f} s on an {facts['device']} that trained ten such runs at once;",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    return "\n".join(lines)


def _history(facts: Facts) -> str:
    rows = [f"| {row['steps']} | {row['train']:.3f} | {row['dev']:.3f} |" for row in facts["history"]]
    return "\n".join(["| step | train loss | dev loss |", "|---:|---:|---:|", *rows])


def _results(facts: Facts) -> str:
    test = facts["test"]
    columns = [test["base"], test["adapter"], test["adapter_unseen_tools"]]
    rows = [
        f"| {name} | " + " | ".join(_figure(key, column.get(key)) for column in columns) + " |"
        for key, name in _FIGURES.items()
        if key in test["adapter"]
    ]
    lines = [
        f"{facts['questions']['test']} test questions.",
        f"Tokens on average: prompt {facts['prompt_tokens']:.0f}, reference plan {facts['plan_tokens']:.0f}.",
        '"Unseen" offers tools under names that no training example had, beside one that no plan needs.',
        "",
        "| | base model | adapter | adapter, unseen tools |",
        "|---|---:|---:|---:|",
        *rows,
    ]
    return "\n".join(lines)


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if key == "loss" else f"{value:.1f}" if key == "steps" else f"{value:.0%}"


def _samples(written: Sequence[Mapping[str, Any]], count: int) -> str:
    lines = [f"Greedy, without a grammar: the first {count} test questions, not chosen.", ""]
    for one in written[:count]:
        verdict = "valid" if one["why"] is None else f"not valid: {one['why']}"
        if one["right"] is not None and one["why"] is None:
            verdict += ", gives the right answer" if one["right"] else ", gives a wrong answer"
        lines += [
            f"> **Task:** {' '.join(one['task'].split())}",
            "",
            "```",
            one["text"],
            "```",
            f"({verdict})",
            "",
        ]
    faults = [one["why"] for one in written if one["why"] is not None]
    kinds = sorted(set(faults), key=lambda why: (-faults.count(why), why))
    counted = "; ".join(f"{faults.count(why)} × {why}" for why in kinds) or "none"
    return "\n".join([*lines, f"Invalid among all {len(written)}: {counted}."])


def _sharpness(report: SpectralReport, facts: Facts) -> str:
    pruned = plan(report, PrunePolicy()).pruned
    summary = report.summary()
    rows = []
    for layer in sorted({int(name.split(".")[2]) for name in report}):
        names = [f"model.layers.{layer}.self_attn.{projection}" for projection in PROJECTIONS]
        cells = [f"**{_ssi(report, name)}**" if name in pruned else _ssi(report, name) for name in names]
        rows.append(f"| {layer} | " + " | ".join(cells) + " |")
    lines = [
        f"SSI by MAS-SVD of the {summary.modules} modules:"
        f" min {summary.min:.3f}, median {summary.median:.3f}, max {summary.max:.3f}.",
        f"Bold: the {len(pruned)} that the default policy (`top: 10`) prunes before serving.",
        "",
        "| layer | q | k | v | o |",
        "|---:|---:|---:|---:|---:|",
        *rows,
    ]
    if served := facts.get("served"):
        loss = served["loss"]
        lines += [
            "",
            f"Loss on {served['questions']} test questions: whole adapter {loss['full']:.3f},"
            f" without those ten {loss['pruned']:.3f}, without ten random ones {loss['random_pruned']:.3f}.",
        ]
    return "\n".join(lines)


def _ssi(report: SpectralReport, module: str) -> str:
    ssi = report[module].ssi
    return "–" if ssi is None else f"{ssi:.3f}"


if __name__ == "__main__":
    typer.run(main)
