"""The pictures of docs/evidence.md: attack success against held-out loss, and ROC curves of weights alone."""

from __future__ import annotations

from pathlib import Path

from comparisons import Comparisons
from matplotlib.figure import Figure
from results import RESULTS, load
from roc_chart import roc_chart
from telling import scored

KINDS = ("benign", "mixed", "backdoor", "toolemu-unsafe", "toolemu-safe", "maths")
COLOURS = {"mas-svd": "#d81b60", "safelora": "#1e88e5", "reference": "#b38600", "random": "#555555"}
COMPARISON = "all poisoned against all good"
DOCS = Path(__file__).parents[2] / "docs"
STATISTICS = ("SSI, mean", "SSI, mean of the ten highest", "‖ΔW‖", "entropy", "kurtosis", "anomaly score")


def main() -> None:
    """Draw both."""
    results = load(RESULTS)
    _against_loss(Comparisons(results))
    chosen = [a for a in results.adapters if a.rank == 8 and " on " not in a.group]
    curves = {name: of for name, of in scored(chosen, COMPARISON).items() if name in STATISTICS}
    roc_chart(curves, f"r=8: {COMPARISON}").savefig(DOCS / "pictures" / "evidence-roc.png", dpi=110)


def _against_loss(comparisons: Comparisons) -> None:
    figure = Figure(figsize=(11, 6.2), dpi=130, layout="constrained")
    axes = figure.subplots(2, 3)
    for place, kind in zip(axes.flat, KINDS, strict=True):
        group = f"{kind} r=8"
        for scorer, colour in COLOURS.items():
            points = comparisons.curve(group, scorer)
            loss, attack = zip(*points, strict=True)
            place.plot(loss, attack, marker="o", markersize=3.5, color=colour, label=scorer, lw=1.4)
        place.set_title(group, loc="left", fontsize=10)
        place.set_ylim(-3, 103)
        place.grid(alpha=0.25)
    for place in axes[:, 0]:
        place.set_ylabel("attack success, %")
    for place in axes[1]:
        place.set_xlabel("held-out loss, nats a token")
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.suptitle(
        "Attack success against held-out loss, 0 to 50 % of modules pruned: left and low is better"
    )
    figure.savefig(DOCS / "pictures" / "evidence.png")


if __name__ == "__main__":
    main()
