"""Which modules are sharp and which are pruned, as charts."""

from __future__ import annotations

from collections import defaultdict
from statistics import fmean
from typing import TYPE_CHECKING

from s3lora_serve.evaluation.measuring.cells import BASE
from s3lora_serve.evaluation.report.charts import shares_chart
from s3lora_serve.evaluation.report.page_charts import Chart
from s3lora_serve.spectral.module_order import in_model_order, place_of
from s3lora_serve.spectral.prune_policy import PrunePlan
from s3lora_serve.terminal.spectral_picture import report_plot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from s3lora_serve.evaluation.measuring.record import CellRecord
    from s3lora_serve.evaluation.statistics.figures import Row
    from s3lora_serve.spectral.report import SpectralReport

_MAX_LINES = 16  # policies in the table of where pruned modules lie


def risky_modules(
    rows: Sequence[Row], records: Iterable[CellRecord], tau: float | None, order: Iterable[str] = ()
) -> Chart | None:
    """Where the modules lie that scorers prune at ``tau``, and policies without one; None without any.

    ``order``: modules as the model has them; those that it lacks come last, by name.
    """
    chosen = [row for row in rows if row.scorer is not None and row.tau in (None, tau) and row.pruned > 0]
    chosen = chosen[:_MAX_LINES]
    by_label: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    every: set[str] = set()
    for record in records:
        cell = record.cell
        label = cell.label.rsplit(" #", 1)[0] if cell.scorer == "random" else cell.label
        by_label[label].append(cell.pruned)
        if cell.label == BASE:
            every.update(cell.pruned)
    if not chosen or not every:
        return None
    ordered = [*(name for name in order if name in every), *sorted(every)]
    places = {name: place_of(name) for name in dict.fromkeys(ordered)}
    layers = sorted({layer for layer, _ in places.values()})
    projections = in_model_order(places.values())
    named = _short(projections)
    panels: dict[str, dict[str, dict[str, float]]] = {"projection": {}, "layer": {}}
    for row in chosen:
        selections = by_label[row.label]
        panels["projection"][row.label] = {
            named[projection]: _share([m for m, (_, p) in places.items() if p == projection], selections)
            for projection in projections
        }
        panels["layer"][row.label] = {
            "–" if layer < 0 else str(layer): _share(
                [m for m, (n, _) in places.items() if n == layer], selections
            )
            for layer in layers
        }
    share = f"{tau:.0%} of modules pruned" if tau is not None else "pruned modules"
    return Chart(
        "modules",
        shares_chart(panels, f"{share.capitalize()}: {_where(panels['projection'])}"),
        f"Tables of the share of modules pruned, by policy and projection, and by policy and layer; {share}",
        "Share of each projection's, and of each layer's, modules that is pruned, a mean over adapters and "
        "seeds. Random pruning shows how uneven chance is.",
    )


def sharpness(
    report: SpectralReport, records: Iterable[CellRecord], adapter: str, tau: float | None
) -> Chart:
    """SSI by layer and projection, with what the report's own scorer prunes at ``tau`` marked."""
    cell = next(
        (
            r.cell
            for r in records
            if (r.cell.adapter, r.cell.scorer) == (adapter, report.scorer)
            and r.cell.tau == tau
            and r.cell.pruned
        ),
        None,
    )
    plan = None if cell is None else PrunePlan(cell.pruned, cell.reason)
    return Chart(
        "ssi",
        report_plot(report, plan),
        f"Heat map of the spectral sharpness index by layer and projection, {len(report)} modules",
        f"SSI of {adapter}. Near 1, a module's change is one direction; framed and crossed: pruned.",
    )


def _short(projections: Sequence[str]) -> dict[str, str]:
    """Projections by their last part, or in full if two would be the same."""
    last = [name.rsplit(".", 1)[-1] for name in projections]
    return dict(zip(projections, last if len(set(last)) == len(last) else projections, strict=True))


def _share(modules: Sequence[str], selections: Sequence[tuple[str, ...]]) -> float:
    return fmean(len(set(modules).intersection(pruned)) / len(modules) for pruned in selections)


def _where(by_policy: Mapping[str, Mapping[str, float]]) -> str:
    """The projection that each of the first policies prunes most."""
    most = {
        policy: max(shares, key=lambda projection: shares[projection])
        for policy, shares in by_policy.items()
        if not policy.startswith("random")
    }
    named = [f"{policy} most in {projection}" for policy, projection in list(most.items())[:2]]
    return ", ".join(named) or "by projection and layer"
