"""A spectral report as a picture: SSI by layer and projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from s3lora_serve.spectral.module_order import in_model_order, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from s3lora_serve.spectral.prune_policy import PrunePlan
    from s3lora_serve.spectral.report import SpectralReport

# Stands out from cividis in every common form of colour blindness, and in grey by its frame.
PRUNED = "#d81b60"
INERT = "#9e9e9e"
ABSENT = "#f2f2f2"
MAX_LINES, MAX_COLUMNS = 48, 256  # a picture with more can be neither read nor drawn in seconds
MAX_LABEL = 48  # characters of a projection's name

_Key = TypeVar("_Key", int, str)


def report_plot(report: SpectralReport, plan: PrunePlan | None = None) -> Figure:
    """A heat map: one column a layer, one line a projection, pruned modules framed and crossed.

    Of more than ``MAX_LINES`` projections or ``MAX_COLUMNS`` layers, those with the highest SSI are drawn,
    and the title says so. Belongs to no GUI and to no global state; save it with ``figure.savefig(path)``.
    """
    cells = {name: place_of(name) for name in report}
    ssi = {place: report[name].ssi or 0.0 for name, place in cells.items()}
    all_layers = sorted({layer for layer, _ in ssi})
    all_projections = in_model_order(ssi)
    layers = _sharpest(all_layers, ((layer, value) for (layer, _), value in ssi.items()), MAX_COLUMNS)
    projections = _sharpest(all_projections, ((name, value) for (_, name), value in ssi.items()), MAX_LINES)
    column, line = ({key: i for i, key in enumerate(keys)} for keys in (layers, projections))
    spot = {n: (column[x], line[y]) for n, (x, y) in cells.items() if x in column and y in line}

    longest = max((len(_cut(name)) for name in projections), default=0)
    labels = 0.1 * max(0, longest - 14)  # inches beyond the usual: the title needs the rest
    width = min(max(2.6 + 0.34 * len(layers), 6.4), 18) + labels
    figure = Figure(figsize=(width, 2.1 + 0.42 * len(projections)), dpi=150)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    _heat_map(figure, axes, report, spot, (max(1, len(projections)), max(1, len(layers))))
    _frame(axes, [spot[name] for name in plan.pruned if name in spot] if plan else [])
    _label(axes, layers, projections)
    left_out = [
        f"{len(shown)} of {len(every)} {what}"
        for shown, every, what in (
            (projections, all_projections, "projections"),
            (layers, all_layers, "layers"),
        )
        if len(shown) < len(every)
    ]
    axes.set_title(_title(report, plan, left_out), loc="left", fontsize=11, pad=8)
    _legend(figure, report, plan, absent=len(spot) < len(layers) * len(projections))
    return figure


def _heat_map(
    figure: Figure,
    axes: Axes,
    report: SpectralReport,
    spot: dict[str, tuple[int, int]],
    shape: tuple[int, int],
) -> None:
    values = [[float("nan")] * shape[1] for _ in range(shape[0])]
    axes.set_facecolor(ABSENT)
    for name, (x, y) in spot.items():
        ssi = report[name].ssi
        if ssi is None:
            axes.add_patch(
                Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=INERT, hatch="////", edgecolor="white", lw=0)
            )
        else:
            values[y][x] = ssi
    image = axes.imshow(values, cmap="cividis", aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, pad=0.015, fraction=0.04, aspect=12)
    bar.set_label("SSI  (σ₁ / Σσ)")
    bar.outline.set_visible(False)


def _frame(axes: Axes, spots: Sequence[tuple[int, int]]) -> None:
    for colour, width in (("white", 3.6), (PRUNED, 2.0)):
        for x, y in spots:
            corner = (x - 0.42, y - 0.42)
            axes.add_patch(
                Rectangle(corner, 0.84, 0.84, fill=False, edgecolor=colour, lw=width, joinstyle="miter")
            )
        xs, ys = [x for x, _ in spots], [y for _, y in spots]
        axes.plot(xs, ys, "x", markersize=8, markeredgewidth=width, color=colour)


def _label(axes: Axes, layers: list[int], projections: list[str]) -> None:
    step = max(1, -(-len(layers) // 40))
    axes.set_xticks(range(0, len(layers), step), ["–" if n < 0 else str(n) for n in layers[::step]])
    axes.set_yticks(range(len(projections)), [_cut(name) for name in projections])
    axes.set_xticks([x - 0.5 for x in range(1, len(layers))], minor=True)
    axes.set_yticks([y - 0.5 for y in range(1, len(projections))], minor=True)
    axes.grid(which="minor", color="white", lw=1.2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("layer")


def _legend(figure: Figure, report: SpectralReport, plan: PrunePlan | None, *, absent: bool) -> None:
    handles = []
    if plan is not None and plan.pruned:
        handles.append(Patch(fill=False, edgecolor=PRUNED, lw=2, label=f"to prune ({len(plan.pruned)})"))
    if inert := sum(row.inert for row in report.rows.values()):
        handles.append(
            Patch(facecolor=INERT, hatch="////", edgecolor="white", label=f"inert, ΔW = 0 ({inert})")
        )
    if absent:
        handles.append(Patch(facecolor=ABSENT, label="not adapted"))
    if handles:
        figure.legend(
            handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9
        )


def _title(report: SpectralReport, plan: PrunePlan | None, left_out: Sequence[str]) -> str:
    summary = report.summary()
    span = ""
    if summary.median is not None:
        span = f", SSI {summary.min:.3f} to {summary.max:.3f}, median {summary.median:.3f}"
    chosen = "" if plan is None else f"\nscorer {report.scorer}, {plan.reason}"
    modules = "1 module" if summary.modules == 1 else f"{summary.modules} modules"
    drawn = f"\ndrawn: {', '.join(left_out)}, those with the highest SSI" if left_out else ""
    return f"Spectral sharpness of {modules}{span}{chosen}{drawn}"


def _sharpest(keys: list[_Key], values: Iterable[tuple[_Key, float]], limit: int) -> list[_Key]:
    """At most ``limit`` of ``keys``, in their order: those with the highest value."""
    highest: dict[_Key, float] = {}
    for key, value in values:
        highest[key] = max(value, highest.get(key, value))
    kept = set(sorted(keys, key=lambda key: -highest[key])[:limit])
    return [key for key in keys if key in kept]


def _cut(name: str) -> str:
    return name if len(name) <= MAX_LABEL else "…" + name[1 - MAX_LABEL :]
