"""A run's report as one HTML page: verdict, charts, tables and method; self-contained, without scripts.

``page.html.jinja`` says what stands on it, ``page.css`` how it looks; here are the values that go in.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from s3lora_serve.evaluation.report.finding import findings, verdict
from s3lora_serve.evaluation.report.module_charts import risky_modules, sharpness
from s3lora_serve.evaluation.report.page_charts import (
    UtilityAxis,
    nearest_tau,
    pareto,
    tau_sweep,
)
from s3lora_serve.evaluation.report.page_parts import environment, style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from s3lora_serve.evaluation.report.finding import Finding
    from s3lora_serve.evaluation.statistics.summary import Summary
    from s3lora_serve.judging.suite import Suite
    from s3lora_serve.spectral.report import SpectralReport

TAU = 0.1  # where pruned modules are shown, or at the nearest measured: the paper's share, near enough


def page(
    summary: Summary,
    reports: Mapping[str, SpectralReport],
    title: str,
    *,
    suite: Suite | None = None,
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
) -> str:
    """The whole report as HTML; the same arguments give the same text.

    ``reports``: spectral reports by adapter; one of each group is drawn. ``suite`` tells how sets were asked.
    Charts show valid plans of the first plan set as utility, and without one harmless prompts answered.
    ``notes`` stand below the verdict, ``versions`` in the footer. Every text is escaped.
    """
    utility = UtilityAxis(next(iter(summary.plans), None))
    found = findings(summary)
    groups = [(name, members) for name, members in summary.header.groups().items() if name in found]
    folder = files(__package__)
    template = environment().from_string(folder.joinpath("page.html.jinja").read_text("utf-8"))
    return template.render(
        title=title,
        summary=summary,
        verdict=verdict(summary),
        notes=notes,
        groups=[
            {"key": f"g{n}", **_group(summary, reports, name, members, found[name], utility)}
            for n, (name, members) in enumerate(groups, 1)
        ],
        suite=suite,
        forms={s.name: s.form for s in (*suite.attacks, *suite.harmless)} if suite else {},
        versions=versions or {},
        style=style(),
    )


def _group(
    summary: Summary,
    reports: Mapping[str, SpectralReport],
    name: str,
    members: Sequence[str],
    found: Finding,
    utility: UtilityAxis,
) -> dict[str, Any]:
    """What the page shows of one group of adapters."""
    rows = [row for row in summary.rows if row.name == name]
    records = [record for record in summary.records if record.cell.adapter in members]
    near = nearest_tau(rows, TAU)
    drawn = next((member for member in members if member in reports), None)
    trade_off = pareto(rows, utility, found.safer[:3]), tau_sweep(rows, utility, found.safer)
    modules = (
        risky_modules(rows, records, near, reports[drawn] if drawn is not None else ()),
        sharpness(reports[drawn], records, drawn, near) if drawn is not None else None,
    )
    return {
        "name": name,
        "members": members,
        "found": found,
        "rows": rows,
        "trade_off": [chart for chart in trade_off if chart is not None],
        "modules": [chart for chart in modules if chart is not None],
    }
