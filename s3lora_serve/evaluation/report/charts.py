"""What more pruning does, and where pruned modules lie, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import Rectangle

from s3lora_serve.evaluation.report.chart_axes import SMALL, blank, cut, grid, legend, percent, title
from s3lora_serve.evaluation.report.palette import BASE, FAINT, INK, SHADE, looks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from s3lora_serve.evaluation.statistics.intervals import Interval

Line = tuple[tuple[float, "Interval"], ...]  # (tau, what was measured there), ascending
_MAX_SHARES = 12  # columns of a table of shares whose numbers can still be read


def tau_chart(
    panels: Mapping[str, tuple[Mapping[str, Line], Mapping[str, Interval]]], headings: Sequence[str]
) -> Figure:
    """A panel for each measure: a line with its band for each scorer, over the share of modules pruned.

    ``panels``: name of the measure → lines by scorer, and levels ("unpruned", "base model") drawn across.
    Random pruning is the grey band behind all others.
    """
    figure, all_axes = blank(4.6, len(panels))
    for axes, heading, (measure, (lines, levels)) in zip(all_axes, headings, panels.items(), strict=True):
        for scorer, line in sorted(lines.items(), key=lambda item: item[0] != "random"):
            _band(axes, scorer, line, len(lines))
        for n, (name, level) in enumerate(levels.items()):
            colour, dashes = ((INK, "-"), (BASE, (0, (6, 3))))[n % 2]
            axes.axhline(level.mean, color=colour, lw=1.2, ls=dashes, zorder=2, label=cut(name))
            axes.axhspan(level.low, level.high, color=colour, alpha=0.06, lw=0, zorder=0)
        grid(axes)
        shown = [i for line in lines.values() for _, i in line] + list(levels.values())
        taus = [tau for line in lines.values() for tau, _ in line]
        percent(axes, y=[v for i in shown for v in (i.low, i.high)], x=taus or [0, 1])
        axes.set_xlabel("share of the scored modules that is pruned (τ)")
        axes.set_ylabel(cut(measure), parse_math=False)
        title(axes, heading)
    handles = {str(handle.get_label()): handle for axes in all_axes for handle in axes.get_lines()}
    last = ["random", *(name for _, levels in panels.values() for name in levels)]
    legend(figure, [handles[name] for name in sorted(handles, key=lambda name: name in last)])
    return figure


def shares_chart(panels: Mapping[str, Mapping[str, Mapping[str, float]]], heading: str) -> Figure:
    """A table of coloured cells for each panel: for each scorer (line) the share pruned in each column.

    ``panels``: "projection" or "layer" → scorer → column → share, 0..1, the same scorers in each. Shares
    are written into the cells where there is room; the strongest colour is a panel's largest share.
    """
    lines = max((len(panel) for panel in panels.values()), default=0)
    names = [len(cut(column)) for panel in panels.values() for shares in panel.values() for column in shares]
    slanted = 0.045 * max(names, default=0)  # inches that the longest name takes below
    figure, all_axes = blank(1.0 + 0.3 * lines + slanted, len(panels))
    for axes, (what, panel) in zip(all_axes, panels.items(), strict=True):
        most = max((share for shares in panel.values() for share in shares.values()), default=0.0)
        columns = list(dict.fromkeys(column for shares in panel.values() for column in shares))
        axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(panel) - 0.5, -0.5))
        axes.set_facecolor(SHADE)
        for y, (scorer, shares) in enumerate(panel.items()):
            for x, column in enumerate(columns):
                _cell(axes, (x, y), (shares[column], most), scorer, write=len(columns) <= _MAX_SHARES)
        step = max(1, -(-len(columns) // 16))
        axes.set_xticks(range(0, len(columns), step), [cut(c) for c in columns[::step]])
        axes.set_yticks(range(len(panel)), [] if axes is not all_axes[0] else [cut(name) for name in panel])
        if any(len(column) > 4 for column in columns):
            axes.tick_params(axis="x", labelrotation=30)
            for label in axes.get_xticklabels():
                label.set(ha="right", rotation_mode="anchor")
        axes.spines[:].set_visible(False)
        axes.set_xlabel(
            cut(what) if len(columns) <= _MAX_SHARES else f"{cut(what)} (strongest colour: {most:.0%})"
        )
    if all_axes:
        title(all_axes[0], heading)
    return figure


def _band(axes: Axes, scorer: str, line: Line, lines: int) -> None:
    colour, marker, dashes = looks(scorer)
    taus, found = [tau for tau, _ in line], [interval for _, interval in line]
    is_random = scorer == "random"
    faint = 0.12 if lines < 5 else 0.06  # many bands over one another would hide the lines
    axes.fill_between(
        taus,
        [i.low for i in found],
        [i.high for i in found],
        color=colour,
        alpha=0.28 if is_random else faint,
        lw=0,
        zorder=1,
    )
    axes.plot(
        taus,
        [i.mean for i in found],
        color=colour,
        marker=marker,
        ls=dashes,
        lw=1.6,
        markersize=4.5,
        label=cut(scorer),
        zorder=2 if is_random else 3,
    )


def _cell(
    axes: Axes, place: tuple[int, int], share_of: tuple[float, float], scorer: str, *, write: bool
) -> None:
    (x, y), (share, most) = place, share_of
    colour = looks(scorer)[0]
    # Never so dark that the number on it cannot be read, by day or by night.
    alpha = 0.7 * share / most if most else 0
    axes.add_patch(Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, facecolor=colour, alpha=alpha, lw=0))
    if write:
        ink = INK if share else FAINT
        axes.text(x, y, f"{share:.0%}", ha="center", va="center", size=SMALL - 1, color=ink)
