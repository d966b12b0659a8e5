"""A run's report as one HTML page: verdict, charts, tables and method; self-contained, without scripts."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from s3lora_serve.evaluation.report import page_words
from s3lora_serve.evaluation.report.finding import findings, verdict
from s3lora_serve.evaluation.report.markup import fold, items, text
from s3lora_serve.evaluation.report.module_charts import risky_modules, sharpness
from s3lora_serve.evaluation.report.page_charts import (
    Chart,
    Utility,
    nearest_tau,
    pareto,
    roc_curves,
    tau_sweep,
)
from s3lora_serve.evaluation.report.page_tables import adapters_table, asked_table, cost_table, policies_table
from s3lora_serve.evaluation.report.palette import stylesheet
from s3lora_serve.evaluation.report.svg import inline_svg

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from s3lora_serve.evaluation.statistics.figures import Row
    from s3lora_serve.evaluation.statistics.summary import Summary
    from s3lora_serve.judging.suite import Suite
    from s3lora_serve.spectral.report import SpectralReport

TAU = 0.1  # where pruned modules are shown: the paper's share, near enough
_OPEN = 60  # rows of a table that is not folded
# A browser refuses what the page does not bring with it, whatever a name in it may have become.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(
    summary: Summary,
    reports: Mapping[str, SpectralReport],
    title: str,
    *,
    suite: Suite | None = None,
    utility: Utility | None = None,
    tau: float = TAU,
    curves: Mapping[str, tuple[Sequence[float], Sequence[bool]]] | None = None,
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
) -> str:
    """The whole report as HTML; the same arguments give the same text.

    ``reports``: spectral reports by adapter; one of each group is drawn. ``suite`` tells how sets were asked.
    ``utility``: what charts show, by default valid plans of the first plan set, else harmless prompts
    answered. ``tau``: the share of modules at which pruned modules are shown, or the nearest measured one.
    ``curves``: (scores, labels) by name, for ROC curves. ``notes`` stand below the verdict, ``versions`` in
    the footer. Every text is escaped. Raises KeyError for a utility of a plan set that was not asked.
    """
    utility = utility or Utility(next(iter(summary.plans), None))
    groups = [(name, members) for name, members in summary.header.groups().items() if _rows(summary, name)]
    parts = [_head(summary, title, notes)]
    if len(groups) > 1:
        links = (f'<a href="#g{n}">{text(name)}</a>' for n, (name, _) in enumerate(groups, 1))
        parts.append(f'<nav aria-label="Adapters">{items(links)}</nav>')
    for n, (name, members) in enumerate(groups, 1):
        parts += _group(summary, reports, (name, members), f"g{n}", utility, tau)
    if curves:
        parts += ["<h2>What scores tell</h2>", _figure(roc_curves(curves), "all")]
    parts += _about(summary, suite)
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    shown = " · ".join(f"{text(name)} {text(version)}" for name, version in (versions or {}).items())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{stylesheet()}\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + f"\n</main>\n<footer>{shown or 's3lora'}</footer>\n</body>\n</html>\n"
    )


def _head(summary: Summary, title: str, notes: Sequence[str]) -> str:
    base = summary.header.base
    adapters = len(summary.header.adapters)
    lead = f"{adapters} adapter{'s' * (adapters != 1)} of {base.name}, suite {summary.header.suite[:12]}"
    below = "".join(f"<p>{text(note)}</p>" for note in notes)
    return (
        f'<header><h1>{text(title)}</h1><p class="lead">{text(lead)}</p></header>\n<main>\n'
        f'<div class="verdict"><p>{text(verdict(summary))}</p></div>{below}'
    )


def _group(
    summary: Summary,
    reports: Mapping[str, SpectralReport],
    group: tuple[str, Sequence[str]],
    key: str,
    utility: Utility,
    tau: float,
) -> Iterator[str]:
    name, members = group
    rows = _rows(summary, name)
    found = findings(summary)[name]
    records = [record for record in summary.records if record.cell.adapter in members]
    near = nearest_tau(rows, tau)
    yield f'<h2 id="{key}">{text(name)}</h2>'
    if found.headline != verdict(summary):
        yield f'<p class="finding">{text(found.headline)}</p>'
    yield items(text(remark) for remark in found.remarks) if found.remarks else ""
    if len(members) > 1:
        yield f"<p>{len(members)} adapters: {text(', '.join(members))}.</p>"
    for chart in (pareto(rows, utility, found.safer[:3]), tau_sweep(rows, utility, found.safer)):
        if chart is not None:
            yield _figure(chart, key)
    yield fold(
        f"Policies ({len(rows)})", policies_table(rows, summary, found.safer), is_open=len(rows) <= _OPEN
    )
    drawn = next((member for member in members if member in reports), None)
    order = reports[drawn] if drawn is not None else ()
    if chart := risky_modules(rows, records, near, order):
        yield _figure(chart, key)
    if drawn is not None:
        yield _figure(sharpness(reports[drawn], records, drawn, near), key)
    yield fold(f"Cost ({len(rows)})", cost_table(rows), is_open=len(rows) <= _OPEN)


def _figure(chart: Chart, key: str) -> str:
    """The chart and, in words, what it shows."""
    drawing = inline_svg(chart.figure, f"{key}-{chart.kind}", chart.label)
    return f'<figure><div class="wide">{drawing}</div><figcaption>{text(chart.caption)}</figcaption></figure>'


def _about(summary: Summary, suite: Suite | None) -> Iterator[str]:
    yield "<h2>What was measured</h2>"
    yield asked_table(summary, suite)
    yield adapters_table(summary)
    yield f"<h3>How answers are judged</h3>{_paragraph(page_words.DETECTOR)}"
    yield f"<h3>What modules cost</h3>{_paragraph(page_words.COST)}"
    yield f"<h2>Method</h2>{_paragraph(page_words.PRUNING)}"
    known = ((name, page_words.SCORERS.get(name)) for name in summary.scorers)
    yield items(f"<b>{text(name)}</b>: {text(_line(words))}" for name, words in known if words)
    yield _paragraph(page_words.CONTROL) + _paragraph(page_words.intervals(summary.bootstrap))


def _paragraph(words: str) -> str:
    return f"<p>{text(_line(words))}</p>"


def _line(words: str) -> str:
    return " ".join(words.split())


def _rows(summary: Summary, name: str) -> list[Row]:
    return [row for row in summary.rows if row.name == name]
