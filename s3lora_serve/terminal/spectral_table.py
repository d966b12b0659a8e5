"""A spectral report as a terminal table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from s3lora_serve.spectral.ranking import rank

if TYPE_CHECKING:
    from s3lora_serve.spectral.prune_policy import PrunePlan
    from s3lora_serve.spectral.report import SpectralReport


def report_table(report: SpectralReport, plan: PrunePlan | None = None) -> Table:
    """Modules by their rank in the plan's order, the riskiest first; those without a score last, by name."""
    own_score = report.scorer != "mas-svd"
    table = Table(
        title=f"Spectral sharpness, scorer {report.scorer}",
        caption=plan.reason if plan else None,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("module", overflow="fold")  # the only column to give way in a narrow terminal
    for figure in ("out×in", "r", "‖ΔW‖", "SSI", *(("score",) if own_score else ())):
        table.add_column(figure, justify="right", no_wrap=True)
    if plan is not None:
        table.add_column("plan", no_wrap=True)
    pruned = set(plan.pruned) if plan else set()
    ranked = rank(report).names
    for name in (*ranked, *sorted(report.rows.keys() - set(ranked))):
        row = report[name]
        cells = [
            row.module,
            f"{row.shape[0]}×{row.shape[1]}",
            str(row.rank),
            f"{row.norm:.4g}",
            _index(row.ssi),
        ]
        if own_score:
            cells.append(_index(row.score))
        if plan is not None:
            cells.append("prune" if row.module in pruned else "inert" if row.inert else "keep")
        style = "bold yellow" if row.module in pruned else "dim" if row.inert else None
        table.add_row(*cells, style=style)
    return table


def _index(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
