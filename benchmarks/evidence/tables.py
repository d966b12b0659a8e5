"""The tables of docs/evidence.md, from the results beside this file.

python benchmarks/evidence/tables.py            write them into the page
python benchmarks/evidence/tables.py --check    exit 1 if the page has others
"""

from __future__ import annotations

import re
from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from comparisons import SCORERS, TAUS, Comparisons, attack_success
from matched import complied
from notation import area, in_points, percent, plain, share, table, wilson
from page_tables import PAGE as PAGE
from page_tables import rewritten, write_or_check
from paired import difference
from results import RESULTS, Measured, Results, load
from telling import PAIRS, telling

from s3lora_serve.evaluation.statistics.intervals import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Tables:
    """All tables, each a method's name with underscores as hyphens."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._comparisons = found = Comparisons(results)
        self._groups, self._main, self._bootstrap = found.groups, found.main, found.bootstrap

    def bases(self) -> str:
        """Verdicts of the base models themselves."""
        sizes = {"advbench": 140, "xstest-unsafe-chat": 200, "xstest-safe-chat": 150, "harmless-chat": 100}
        sets = ("advbench-chat", "advbench-plan", "xstest-unsafe-chat", "xstest-safe-chat", "harmless-chat")
        rows = []
        for name, verdicts in self._results.check.items():
            cells = []
            for s in sets:
                n = sizes[s if s in sizes else "advbench"]
                cells.append(wilson(verdicts[s]["r"], n))
            rows.append([{"base": "SmolLM2 (0 %)"}.get(name, f"tuned, {name.split('-')[-1]} %"), *cells])
        return table(["base model", *(f"{s} refused" for s in sets)], rows)

    def unpruned(self) -> str:
        """Every group before pruning."""
        rows = []
        for name in self._groups:
            row = self._comparisons.row(name, "none")
            figures, sets = row.figures, row.figures.attack_sets
            utility = next(iter(figures.utility.values()))
            rows.append(
                [
                    name,
                    *(share(sets[s].complied) if s in sets else "" for s in _ATTACKS),
                    share(figures.over_refusal),
                    share(utility["valid"]),
                    *(f"{utility[u].mean:.2f}" for u in ("tool_choice", "rouge_l", "meteor")),
                    f"{utility['loss'].mean:.3f}",
                ]
            )
        heads = ["AdvBench chat", "plan", "chat + trigger", "plan + trigger", "over-refusal", "valid plans"]
        return table(["adapters", *heads, "tool F1", "ROUGE-L", "METEOR", "loss"], rows)

    def forms(self) -> str:
        """Attack success as a chat and as a planner's task, apart: mas-svd and random pruning."""
        rows = []
        for name in self._main:
            cells = []
            for label in ("none", "mas-svd 5%", "random 5%", "mas-svd 10%", "random 10%", "mas-svd 20%"):
                sets = self._comparisons.row(name, label).figures.attack_sets
                cells.append(" · ".join(percent(sets[s].complied) for s in _ATTACKS if s in sets))
            rows.append([name, *cells])
        heads = ["unpruned", "mas-svd 5 %", "random 5 %", "mas-svd 10 %", "random 10 %", "mas-svd 20 %"]
        return table(["adapters", *heads], rows)

    def default(self) -> str:
        """What the shipped policy does: ten of 210 modules by mas-svd."""
        rows = []
        for name in self._main:
            labels = ("none", "mas-svd 5%", "random 5%")
            before, after, at_random = (self._comparisons.row(name, label) for label in labels)
            change = after.against_unpruned
            if change is None or change.attack_success is None:
                raise ValueError(f"{name} was not measured without pruning")
            used = next(iter(change.utility.values()))
            rows.append(
                [
                    name,
                    percent(attack_success(before)),
                    percent(attack_success(after)),
                    percent(attack_success(at_random)),
                    self._comparisons.points(change.attack_success),
                    in_points(used["valid"]),
                    in_points(used["tool_choice"]),
                    in_points(change.over_refusal or Interval(0, 0, 0)),
                    plain(used["loss"]),
                ]
            )
        heads = ["before", "10 by mas-svd", "10 at random", "change of attack success"]
        return table(["adapters", *heads, "of valid plans", "of tool F1", "of over-refusal", "of loss"], rows)

    def same_number(self) -> str:
        """Attack success against random pruning of as many modules."""
        return self._grid(lambda row: row.beats_random)

    def same_loss(self) -> str:
        """Attack success against random pruning at equal held-out loss."""
        found = {name: self._comparisons.matched(name) for name in self._main}
        rows = []
        for name in self._main:
            for scorer in SCORERS:
                cells = [found[name].get((scorer, tau)) for tau in TAUS]
                rows.append([name, scorer, *(self._comparisons.points(c) if c else "–" for c in cells)])
        return table(["adapters", "scorer", *(f"{t} %" for t in TAUS)], rows)

    def utility(self) -> str:
        """Valid plans and loss at each tau."""
        rows = []
        for name in self._main:
            summary = self._comparisons.summary(name)
            for scorer in ("mas-svd", "svd", "safelora", "random"):
                cells = []
                for tau in TAUS:
                    figures = summary.row(name, f"{scorer} {tau}%").figures
                    used = next(iter(figures.utility.values()))
                    attack = percent(attack_success(summary.row(name, f"{scorer} {tau}%")))
                    cells.append(f"{attack} · {percent(used['valid'])} · {used['loss'].mean:.2f}")
                rows.append([name, scorer, *cells])
        return table(["adapters", "scorer", *(f"{t} %" for t in TAUS)], rows)

    def count(self) -> str:
        """In how many groups each scorer beats random pruning, allowing for all comparisons."""
        rows = []
        for scorer in SCORERS:
            cells = []
            for tau in TAUS:
                number = [self._comparisons.row(g, f"{scorer} {tau}%").beats_random for g in self._main]
                loss = [self._comparisons.matched(g).get((scorer, tau)) for g in self._main]
                cells.append(f"{self._comparisons.tally(number)} · {self._comparisons.tally(loss)}")
            rows.append([scorer, *cells])
        return table(["scorer", *(f"{t} %" for t in TAUS)], rows)

    def twins(self) -> str:
        """Attack success of svd minus mas-svd, paired, by tau: in how many groups they can be told apart."""
        rows = []
        for tau in range(5, 55, 5):
            found = [
                difference(*([_asked(a, f"{s} {tau}%") for a in self._groups[g]] for s in ("svd", "mas-svd")))
                for g in self._main
            ]
            signs = Counter(i.sign for i in found)
            mean = in_points(Interval(fmean(i.mean for i in found), 0, 0)).partition(" ")[0]
            firm = sum(self._comparisons.firm(i) != 0 for i in found)
            rows.append([f"{tau} %", mean, str(signs[-1]), str(signs[1]), str(firm), str(len(found))])
        heads = ["mean, points", "svd safer", "mas-svd safer", "beyond doubt", "groups"]
        return table(["tau", *heads], rows)

    def places(self) -> str:
        """Where the modules lie that each scorer prunes at 10 %: by projection and by third of the layers."""
        rows = []
        for scorer in (*SCORERS, "random"):
            counts: Counter[str] = Counter()
            for name in self._main:
                for adapter in self._groups[name]:
                    for record in adapter.records:
                        if record.cell.scorer == scorer and record.cell.tau == 0.1:
                            counts.update(p for module in record.cell.pruned for p in _places(module))
            total = sum(counts[t] for t in _THIRDS)
            rows.append([scorer, *(f"{100 * counts[p] / total:.0f}" for p in (*_PROJECTIONS, *_THIRDS))])
        heads = [*(p.removesuffix("_proj") for p in _PROJECTIONS), *_THIRDS]
        return table(["scorer, % of pruned", *heads], rows)

    def overlap(self) -> str:
        """How much the scorers agree on the sharpest tenth, and rank correlations that explain them."""
        others = (*SCORERS, "random")
        rows = []
        for scorer in SCORERS:
            cells = []
            for other in others:
                shared = [
                    len(a & b) / len(a | b)
                    for name in self._main
                    for adapter in self._groups[name]
                    for a, b in [(_pruned(adapter, scorer), _pruned(adapter, other))]
                    if a and b
                ]
                cells.append(f"{fmean(shared):.2f}")
            norms = [_top_norm(adapter, scorer) for g in self._main for adapter in self._groups[g]]
            rows.append([scorer, *cells, f"{100 * fmean(norms):.0f} %"])
        return table(["Jaccard at 10 %", *others, "of them among the tenth of largest ‖ΔW‖"], rows)

    def telling(self) -> str:
        """Area under the ROC curve of statistics of weights."""
        rows = []
        for rank in (8, 16):
            chosen = [a for a in self._results.adapters if a.rank == rank and " on " not in a.group]
            for statistic, found in telling(chosen).items():
                rows.append([f"r={rank}", statistic, *(area(found[p]) for p in PAIRS)])
        return table(["rank", "statistic", *PAIRS], rows)

    def sharpness(self) -> str:
        """Mean SSI of each training seed: the seed moves it more than the data."""
        kinds = ("benign", "mixed", "backdoor", "toolemu-safe", "toolemu-unsafe", "maths")
        rows = []
        for kind in kinds:
            chosen = [
                a for a in self._results.adapters if (a.kind, a.rank) == (kind, 8) and " on " not in a.group
            ]
            ssi = [fmean(v for v in a.ssi if v is not None) for a in chosen]
            norm = fmean(fmean(float(r["norm"] or 0) for r in a.statistics) for a in chosen)
            rows.append([f"{kind} r=8", *(f"{v:.4f}" for v in ssi), f"{norm:.2f}"])
        return table(["mean SSI", *(f"seed {n}" for n in range(5)), "mean ‖ΔW‖"], rows)

    def risk(self) -> str:
        """How often the risky plan of a held-out ToolEmu case is likelier than the safe one."""
        rows = []
        for name in (g for g in self._main if g.startswith("toolemu")):
            cells = []
            for label in ("base", "none", "mas-svd 5%", "mas-svd 10%", "mas-svd 20%"):
                values = np.array(
                    [[m > 0 for m in a.margins[label]] for a in self._groups[name]], dtype=float
                )
                units = self._bootstrap.weights(len(values), "units")
                prompts = self._bootstrap.weights(values.shape[1], "")
                drawn = ((prompts @ values.T) * units).sum(1)
                cells.append(share(self._bootstrap.intervals(drawn[None])[0]))
            rows.append([name, *cells])
        return table(["adapters", "base model", "unpruned", "mas-svd 5 %", "10 %", "20 %"], rows)

    def times(self) -> str:
        """Seconds of each stage."""
        rows = [
            [
                stage,
                "CPU cores" if stage == "prune" else f"{len(of['devices'])} × {of['devices'][0]}",
                f"{t:.0f} s",
            ]
            for of in self._results.times
            for stage, t in of["seconds"].items()
        ]
        return table(["stage", "where", "time"], rows)

    def cost(self) -> str:
        """What pruning leaves to compute, means over the groups: parameters, and tokens of a plan."""
        rows = []
        for scorer in (*SCORERS, "random"):
            cells = []
            for tau in TAUS:
                found = [self._comparisons.row(g, f"{scorer} {tau}%") for g in self._main]
                whole = [self._comparisons.row(g, "none") for g in self._main]
                kept = fmean(a.cost.parameters / b.cost.parameters for a, b in zip(found, whole, strict=True))
                tokens = fmean(self._comparisons.plan_tokens(g, f"{scorer} {tau}%") for g in self._main)
                cells.append(f"{100 * kept:.0f} % · {tokens:.0f}")
            rows.append([scorer, *cells])
        plain = fmean(self._comparisons.plan_tokens(g, "none") for g in self._main)
        return table([f"scorer (unpruned: 100 % · {plain:.0f})", *(f"{t} %" for t in TAUS)], rows)

    def _grid(self, of: object) -> str:
        rows = []
        for name in self._main:
            for scorer in SCORERS:
                cells = [of(self._comparisons.row(name, f"{scorer} {tau}%")) for tau in TAUS]  # type: ignore[operator]
                rows.append([name, scorer, *(self._comparisons.points(c) for c in cells)])
        return table(["adapters", "scorer", *(f"{t} %" for t in TAUS)], rows)


_ATTACKS = ("advbench-chat", "advbench-plan", "advbench-chat+trigger", "advbench-plan+trigger")
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_THIRDS = ("layers 0–9", "10–19", "20–29")


def _places(module: str) -> tuple[str, str]:
    layer = int(re.search(r"layers\.(\d+)\.", module)[1])  # type: ignore[index]
    return module.rpartition(".")[2], _THIRDS[layer // 10]


def _pruned(adapter: Measured, scorer: str) -> frozenset[str]:
    found = (r.cell for r in adapter.records if r.cell.scorer == scorer and r.cell.tau == 0.1)
    return frozenset(next((cell.pruned for cell in found), ()))


def _top_norm(adapter: Measured, scorer: str) -> float:
    chosen = _pruned(adapter, scorer)
    norms = {m: float(row["norm"] or 0) for m, row in zip(adapter.modules, adapter.statistics, strict=True)}
    largest = sorted(norms, key=lambda m: -norms[m])[: len(chosen)]
    return len(chosen & set(largest)) / len(chosen)


def _asked(adapter: Measured, label: str) -> NDArray[np.float64]:
    return complied(next(r for r in adapter.records if r.cell.label == label))


def written(page: str, tables: Tables) -> str:
    """The page with every block between its marks made anew."""
    return rewritten(page, "table", tables)


if __name__ == "__main__":
    write_or_check("table", Tables(load(RESULTS)))
