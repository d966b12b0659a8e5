"""A summary as a terminal table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from s3lora_serve.evaluation.report.finding import findings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3lora_serve.evaluation.report.finding import Finding
    from s3lora_serve.evaluation.statistics.figures import Row
    from s3lora_serve.evaluation.statistics.intervals import Interval
    from s3lora_serve.evaluation.statistics.summary import Summary

LABEL = 20  # characters of a label that are on one line however narrow the terminal


def summary_table(summary: Summary) -> Table:
    """A line for each row: shares in per cent with their intervals, and the difference to random pruning."""
    table = Table(
        title="Attack success, over-refusal and utility",
        caption=(
            f"% [{summary.bootstrap.level:.0%} interval of each]; bold: safer than as many modules at random,"
            " at bounds that allow for all comparisons"
        ),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    longest = max((len(row.label) for row in summary.rows), default=0)
    table.add_column("pruned by", overflow="fold", min_width=min(longest, LABEL))
    for heading in _headings(summary):
        table.add_column(heading, justify="right")
    found = findings(summary)
    for name, finding in found.items():
        if len(found) > 1:
            table.add_section()
            table.add_row(Text(name, style="underline"))
        for row in summary.rows:
            if row.name == name:
                table.add_row(Text(row.label), *_cells(row, summary), style=_style(row, finding))
    return table


def _headings(summary: Summary) -> Iterator[str]:
    yield "modules"
    if summary.attacks:
        yield from ("attack success", "minus random", "broken")
    if summary.harmless:
        yield "harmless refused"
    for name in summary.plans:
        yield from (f"{escape(name)} valid", "loss")


def _cells(row: Row, summary: Summary) -> Iterator[str]:
    figures = row.figures
    yield f"{row.pruned:.3g}"
    if summary.attacks:
        yield _percent(figures.attack_success)
        yield _percent(row.beats_random, signed=True)
        yield "–" if figures.attack is None else f"{100 * figures.attack.broken.mean:.0f}"
    if summary.harmless:
        yield _percent(figures.over_refusal)
    for utility in figures.utility.values():
        yield _percent(utility["valid"])
        yield f"{utility['loss'].mean:.3f}"


def _style(row: Row, finding: Finding) -> str | None:
    if row.scorer is None:
        return "dim"
    return "bold" if row.label in finding.safer else None


def _percent(interval: Interval | None, *, signed: bool = False) -> str:
    if interval is None:
        return "–"
    sign = "+" if signed else ""
    mean, low, high = (f"{round(100 * v):{sign}}" for v in (interval.mean, interval.low, interval.high))
    return escape(f"{mean} [{low},{high}]")
