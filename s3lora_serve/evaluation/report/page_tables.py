"""The report's tables: policies with intervals, costs, and what was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.evaluation.report.markup import NONE, number, share, table, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from s3lora_serve.evaluation.statistics.figures import CostMeans, Row
    from s3lora_serve.evaluation.statistics.summary import Summary
    from s3lora_serve.judging.suite import Suite

_MEASURES = {
    "valid": "valid",
    "tool_choice": "tools F1",
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "loss": "loss, nats a token",
}


def policies_table(rows: Sequence[Row], summary: Summary, safer: Collection[str]) -> str:
    """A line for each policy: shares in per cent with intervals; ``safer`` are marked."""
    columns = ["policy", "modules pruned"]
    if summary.attacks:
        columns += ["attack success", "minus random", "minus unpruned", "attacks refused", "broken"]
    if summary.harmless:
        columns.append("harmless refused")
    columns += [f"{name}: {words}" for name in summary.plans for words in _MEASURES.values()]
    lines = ((_class(row, safer), [text(row.label), *_figures(row, summary)]) for row in rows)
    level = f"{summary.bootstrap.level:.0%}"
    caption = f"Shares in %, differences in points, with {level} intervals; ✓ safer than random pruning"
    return table(caption, columns, lines)


def cost_table(rows: Sequence[Row]) -> str:
    """A line for each policy: what the kept modules add to each token, and what the answers took."""
    columns = [
        "policy",
        "modules kept",
        "parameters",
        "of the base model's",
        "size",
        "engine time",
        "tokens out",
    ]
    timed = any(row.cost.engine_seconds is not None for row in rows)
    if not timed:
        columns.remove("engine time")
    lines = (
        ("control" if row.scorer is None else "", [text(row.label), *_cost(row.cost, timed=timed)])
        for row in rows
    )
    return table("Cost of the kept modules, means over adapters and seeds", columns, lines)


def asked_table(summary: Summary, suite: Suite | None) -> str:
    """A line for each set: what it is for, how many prompts it has and how they were asked."""
    forms = {s.name: s.form for s in (*suite.attacks, *suite.harmless)} if suite else {}
    answer, plan = (suite.answer_tokens, suite.plan_tokens) if suite else (None, None)
    kinds: dict[str, tuple[str, Mapping[str, int], int | None]] = {
        "attack: to be refused": ("answer", summary.attacks, answer),
        "harmless: to be answered": ("answer", summary.harmless, answer),
        "tasks with reference plans": ("plan", summary.plans, plan),
    }
    lines = [
        (
            "",
            [
                text(name),
                kind,
                f"{count:,}",
                {"chat": "chat", "plan": "request for a plan"}.get(
                    forms.get(name, "plan" if what == "plan" else ""), NONE
                ),
                NONE if tokens is None else f"{tokens:,}",
            ],
        )
        for kind, (what, sets, tokens) in kinds.items()
        for name, count in sets.items()
    ]
    return table(
        "What was asked", ["set", "kind", "prompts", "asked as", "tokens at most"], lines, words=True
    )


def adapters_table(summary: Summary) -> str:
    """A line for each adapter: where it came from, and the digest of its weights."""
    lines = [
        (
            "",
            [
                text(name),
                text(NONE if a.group is None else a.group),
                text(a.source),
                f"{a.modules:,}",
                f"<code>{text(a.sha256[:16])}</code>",
            ],
        )
        for name, a in summary.header.adapters.items()
    ]
    columns = ["adapter", "group", "source", "scored modules", "sha256 of the weights"]
    return table("Adapters, as they were before pruning", columns, lines, words=True)


def _figures(row: Row, summary: Summary) -> Iterator[str]:
    figures, unpruned = row.figures, row.against_unpruned
    yield f"{row.pruned:.4g}"
    if summary.attacks:
        attack = figures.attack
        yield share(figures.attack_success)
        yield share(row.beats_random, signed=True)
        yield share(None if unpruned is None else unpruned.attack_success, signed=True)
        yield share(None if attack is None else attack.refused)
        yield share(None if attack is None else attack.broken)
    if summary.harmless:
        yield share(figures.over_refusal)
    for name in summary.plans:
        measures = figures.utility[name]
        for measure in _MEASURES:
            yield number(measures[measure]) if measure == "loss" else share(measures[measure])


def _cost(cost: CostMeans, *, timed: bool) -> Iterator[str]:
    yield f"{cost.modules:.4g}"
    yield f"{cost.parameters:,.0f}"
    yield f"{cost.parameters / cost.base_parameters:.2%}" if cost.base_parameters else NONE
    yield f"{cost.bytes / 1e6:,.2f} MB"
    if timed:
        yield NONE if cost.engine_seconds is None else f"{cost.engine_seconds:,.1f} s"
    yield f"{cost.output_tokens:,.0f}"


def _class(row: Row, safer: Collection[str]) -> str:
    return "control" if row.scorer is None else "safer" if row.label in safer else ""
