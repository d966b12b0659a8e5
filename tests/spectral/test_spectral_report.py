"""Reports: rows by name, figures over them, JSON, a table and a picture."""

from __future__ import annotations

import io
import json

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from rich.console import Console

from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top, plan
from s3lora_serve.spectral.report import SpectralReport, SsiSpread
from s3lora_serve.spectral.scorers import score
from s3lora_serve.terminal.spectral_picture import MAX_COLUMNS, MAX_LABEL, MAX_LINES, PRUNED, report_plot
from s3lora_serve.terminal.spectral_table import report_table

PROJECTIONS = {"self_attn.q_proj": (64, 64), "self_attn.v_proj": (32, 64), "mlp.down_proj": (64, 128)}


@pytest.fixture
def report() -> SpectralReport:
    """Four layers of three projections; layer 0 lacks one, and one module is inert."""
    g = torch.Generator().manual_seed(0)
    modules = {}
    for layer in range(4):
        for projection, (out, inp) in PROJECTIONS.items():
            b = torch.randn(out, 4, generator=g) * torch.logspace(0, -layer / 2, 4)
            modules[f"model.layers.{layer}.{projection}"] = LowRank(torch.randn(4, inp, generator=g), b, 2.0)
    del modules["model.layers.0.self_attn.v_proj"]
    inert = modules["model.layers.2.mlp.down_proj"]
    modules["model.layers.2.mlp.down_proj"] = LowRank(inert.a, torch.zeros_like(inert.b), 2.0)
    return score(modules)


def rendered(report: SpectralReport, tau: int | None, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(report_table(report, None if tau is None else plan(report, PrunePolicy(rule=Top(tau)))))
    return console.export_text()


def test_rows_are_found_by_name(report: SpectralReport):
    """A report is a mapping from module names to rows, in the adapter's order."""
    assert report["model.layers.3.self_attn.q_proj"].shape == (64, 64)
    assert len(report) == len(list(report)) == 11
    assert next(iter(report)) == "model.layers.0.self_attn.q_proj"
    assert repr(report) == "SpectralReport('mas-svd', 11 modules)"


def test_json_round_trips(report: SpectralReport):
    """A report survives JSON text bit for bit."""
    assert SpectralReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_the_summary_leaves_inert_modules_out(report: SpectralReport):
    """Range, median and mean are over modules that change something."""
    ssi = sorted(row.ssi for row in report.rows.values() if row.ssi is not None)
    summary = report.summary()

    assert (summary.min, summary.max) == (ssi[0], ssi[-1])
    assert summary.median == (ssi[4] + ssi[5]) / 2
    assert summary.mean == pytest.approx(sum(ssi) / 10)
    assert (summary.modules, summary.inert) == (11, 1)


def test_a_summary_of_nothing_has_no_figures():
    """When all modules are inert there is no SSI to sum up."""
    inert = score({"m": LowRank(torch.ones(1, 4), torch.zeros(4, 1), 1.0)})

    assert inert.summary() == SsiSpread(None, None, None, None, modules=1, inert=1)


def test_the_table_ranks_and_marks(report: SpectralReport):
    """The riskiest module comes first, pruned ones are marked, inert ones come last."""
    lines = [line for line in rendered(report, 2).splitlines() if "model.layers" in line]
    by_score = sorted(report.rows.values(), key=lambda row: -(row.score or 0))

    assert [line.split()[0] for line in lines[:-1]] == [row.module for row in by_score[:-1]]
    assert [line.split()[-1] for line in lines] == ["prune"] * 2 + ["keep"] * 8 + ["inert"]
    assert f"{by_score[0].ssi:.4f}" in lines[0]


def test_the_table_stands_without_a_plan(report: SpectralReport):
    """Without a plan nothing claims to be kept or pruned."""
    text = rendered(report, None)

    assert "keep" not in text
    assert "prune" not in text


def test_a_narrow_terminal_folds_names_not_figures(report: SpectralReport):
    """At 60 columns every figure is still whole."""
    text = rendered(report, 2, width=60)

    assert all(f"{row.ssi:.4f}" in text for row in report.rows.values() if row.ssi is not None)
    assert "…" not in text


def test_the_plot_frames_what_is_pruned(report: SpectralReport):
    """One frame a pruned module, at its layer and projection; the title gives the reason."""
    chosen = plan(report, PrunePolicy(rule=Top(3)))
    figure = report_plot(report, chosen)
    axes = figure.axes[0]
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_edgecolor()[:3] == to_rgb(PRUNED)]
    centres = {(round(p.get_x() + p.get_width() / 2), round(p.get_y() + p.get_height() / 2)) for p in frames}
    parts = [name.split(".", 3) for name in chosen.pruned]
    places = {(int(layer), list(PROJECTIONS).index(projection)) for _, _, layer, projection in parts}

    assert centres == places
    assert [label.get_text() for label in axes.get_yticklabels()] == list(PROJECTIONS)
    assert chosen.reason in axes.get_title(loc="left")


def test_the_legend_covers_no_data(report: SpectralReport):
    """Once drawn, the legend lies wholly below the heat map and its labels."""
    figure = report_plot(report, plan(report, PrunePolicy(rule=Top(3))))
    FigureCanvasAgg(figure).draw()
    legend = figure.legends[0].get_window_extent()

    assert legend.y1 <= figure.axes[0].get_tightbbox().y0
    assert legend.y0 >= 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "modules", [{}, {"lm_head": 1.0}, {"a.0.q": 0.0, "a.1.q": 0.0}], ids=["none", "one", "inert"]
)
def test_odd_adapters_can_be_plotted(modules: dict[str, float]):
    """No module, one without a layer number, and only inert ones draw without a warning."""
    report = score({n: LowRank(torch.ones(1, 4), torch.full((4, 1), v), 1.0) for n, v in modules.items()})
    buffer = io.BytesIO()
    report_plot(report, plan(report, PrunePolicy())).savefig(buffer, format="png")

    assert buffer.getvalue().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("pattern", "drawn", "shape"),
    [
        ("block{}_expert.up", f"drawn: {MAX_LINES} of 300 projections", (MAX_LINES, 1)),
        ("m.{}.up", f"drawn: {MAX_COLUMNS} of 300 layers", (1, MAX_COLUMNS)),
    ],
)
def test_a_picture_has_a_bounded_size(pattern: str, drawn: str, shape: tuple[int, int]):
    """Modules without layer numbers take a line each: the sharpest are drawn, and the title says so."""
    factors = {i: torch.eye(2, 4) * torch.tensor([[1.0], [i / 300]]) for i in range(300)}
    report = score({pattern.format(i): LowRank(a, torch.eye(4, 2), 1.0) for i, a in factors.items()})
    figure = report_plot(report, plan(report, PrunePolicy(rule=Top(300, max_share=1))))
    axes = figure.axes[0]
    frames = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_edgecolor()[:3] == to_rgb(PRUNED)]

    assert drawn in axes.get_title(loc="left")
    assert axes.images[0].get_array().shape == shape
    assert len(frames) == shape[0] * shape[1]
    assert max(figure.get_size_inches()) < 24


def test_long_names_leave_room_for_the_picture():
    """A label keeps its end, which tells projections apart."""
    name = "x" * 500 + ".last_proj"
    report = score({name: LowRank(torch.ones(1, 4), torch.ones(4, 1), 1.0)})
    (label,) = (
        report_plot(
            report,
        )
        .axes[0]
        .get_yticklabels()
    )

    assert label.get_text().endswith("xx.last_proj")
    assert len(label.get_text()) == MAX_LABEL
