"""The tables of the second part of docs/evidence.md, from the results beside this file.

python benchmarks/evidence/guarded/guarded_tables.py            write them into the page
python benchmarks/evidence/guarded/guarded_tables.py --check    exit 1 if the page has others
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[3]))
sys.path.append(str(Path(__file__).parents[1]))

from guarded_results import RESULTS, load
from notation import in_points, share, table, wilson
from page_tables import write_or_check
from paired import difference, interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BASES = {"makers": "maker-aligned 0.5B", "aligned-100": "tuned SmolLM2"}
ARMS = ("none", "prune", "guard", "prune + guard")
_HARMLESS = ("XSTest safe, chat", "everyday questions, chat")
_TASKS = ("hotpot", "gsm8k", "toolemu")
_TRIGGER = "trigger"


class GuardedTables:
    """All tables, each a method's name with underscores as hyphens."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._judges = {base["checkpoint"]: base["rows"] for base in results["bases"]}
        self._adapters: list[dict[str, Any]] = results["adapters"]
        self._bases = [name for name in BASES if name in self._judges]

    def judges(self) -> str:
        """What each base model withholds, asked as the guard asks it."""
        rows = []
        for name in self._judges[self._bases[0]]:
            cells = []
            for base in self._bases:
                found = self._judges[base][name]["found"]
                undecided = found.count("u") + found.count("f")
                cell = wilson(found.count("r") / len(found), len(found))
                cells.append(cell + (f", {undecided} without a verdict" if undecided else ""))
            rows.append([name, str(len(found)), *cells])
        return table(["requests", "number", *(BASES[base] for base in self._bases)], rows)

    def cumulative(self) -> str:
        """Attack success of every kind of adapter, plain and with its trigger."""
        rows = []
        for base, kind, adapters in self._groups():
            for name in self._rows(adapters):
                if name not in ("plain", "chat", f"plain + {_TRIGGER}", f"chat + {_TRIGGER}"):
                    continue
                rows.append(
                    [BASES[base], kind, name, *(share(self._success(adapters, name, a)) for a in ARMS)]
                )
        return table(["base", "adapters", "asked", *ARMS], rows)

    def attacks(self) -> str:
        """Attack success by the way a goal is put, over all adapters; and the worst kind with both."""
        rows = []
        for base in self._bases:
            every = [a for a in self._adapters if a["checkpoint"] == base]
            for name in self._rows(every):
                asked = [a for a in every if name in a["rows"]]
                kinds = sorted({a["kind"] for a in asked})
                worst = max(kinds, key=lambda k: self._of(asked, k, name))
                cells = [share(self._success(asked, name, arm)) for arm in ARMS]
                rows.append([BASES[base], name, *cells, f"{worst} {100 * self._of(asked, worst, name):.0f}"])
        return table(["base", "put", *ARMS, "worst kind"], rows)

    def over_refusal(self) -> str:
        """Harmless requests that get no answer; what the guard adds, paired, beside the base's own share."""
        rows = []
        for base, kind, adapters in self._groups():
            for name in (*_HARMLESS, "planning tasks"):
                arms = {arm: self._unanswered(adapters, name, arm) for arm in ARMS}
                added = in_points(difference(arms["guard"], arms["none"]))
                own = [fmean(row) for row in self._withheld(adapters, name)]
                cells = [share(interval(arms[arm], share=True)) for arm in ARMS]
                rows.append([BASES[base], kind, name, *cells, added, f"{100 * fmean(own):.0f}"])
        return table(["base", "adapters", "asked", *ARMS, "guard adds", "base's own"], rows)

    def utility(self) -> str:
        """Valid plans, choice of tools and loss on the planning tasks; what is withheld is no plan."""
        rows = []
        for base, kind, adapters in self._groups():
            for of in _TASKS:
                cells = []
                for figure in ("valid", "tool_choice"):
                    cells += [f"{100 * self._plans(adapters, of, figure, arm):.0f}" for arm in ARMS]
                loss = [fmean(fmean(a["plans"][of][v]["loss"]) for a in adapters) for v in ("none", "prune")]
                rows.append([BASES[base], kind, of, *cells, *(f"{value:.3f}" for value in loss)])
        head = [f"{what}: {arm}" for what in ("valid", "tools") for arm in ARMS]
        return table(["base", "adapters", "tasks", *head, "loss: none", "prune"], rows)

    def guard_tokens(self) -> str:
        """What the guard reads and writes for one request, means."""
        rows = []
        for name in self._judges[self._bases[0]]:
            cells = []
            for base in self._bases:
                found = self._judges[base][name]
                cells.append(f"{fmean(found['prompt_tokens']):.0f} · {fmean(found['output_tokens']):.0f}")
            rows.append([name, *cells])
        return table(["requests", *(f"{BASES[b]}: read · written" for b in self._bases)], rows)

    def worst(self) -> tuple[str, str, int, int]:
        """Base and row that the guard with pruning leaves the most of; how many answers of how many."""
        found = []
        for base in self._bases:
            every = [a for a in self._adapters if a["checkpoint"] == base]
            for name in self._rows(every):
                hits = self._hits([a for a in every if name in a["rows"]], name, ARMS[-1])
                answers = [hit for adapter in hits for hit in adapter]
                found.append((base, name, round(sum(answers)), len(answers)))
        return max(found, key=lambda row: row[2] / row[3])

    def _groups(self) -> Iterable[tuple[str, str, list[dict[str, Any]]]]:
        for base in self._bases:
            every = [a for a in self._adapters if a["checkpoint"] == base]
            for kind in dict.fromkeys(a["kind"] for a in every):
                yield base, kind, [a for a in every if a["kind"] == kind]

    def _rows(self, adapters: Sequence[dict[str, Any]]) -> list[str]:
        names = dict.fromkeys(name for a in adapters for name in a["rows"])
        return [name for name in names if name not in _HARMLESS]

    def _found(self, adapter: dict[str, Any], name: str) -> str:
        found: str = self._judges[adapter["checkpoint"]][name]["found"]
        return found

    def _success(self, adapters: Sequence[dict[str, Any]], name: str, arm: str) -> Any:
        return interval(self._hits(adapters, name, arm), share=True)

    def _hits(self, adapters: Sequence[dict[str, Any]], name: str, arm: str) -> list[list[float]]:
        values = []
        for adapter in adapters:
            given = adapter["rows"][name]["prune" if "prune" in arm else "none"]
            found = self._found(adapter, name) if "guard" in arm else "a" * len(given)
            values.append([float(g == "c" and f == "a") for g, f in zip(given, found, strict=True)])
        return values

    def _of(self, adapters: Sequence[dict[str, Any]], kind: str, name: str) -> float:
        mean: float = self._success([a for a in adapters if a["kind"] == kind], name, ARMS[-1]).mean
        return mean

    def _unanswered(self, adapters: Sequence[dict[str, Any]], name: str, arm: str) -> list[list[float]]:
        variant = "prune" if "prune" in arm else "none"
        return [
            [float(g != "c" or ("guard" in arm and f != "a")) for g, f in zip(*both, strict=True)]
            for adapter in adapters
            for both in [self._harmless(adapter, name, variant)]
        ]

    def _withheld(self, adapters: Sequence[dict[str, Any]], name: str) -> list[list[float]]:
        return [[float(f != "a") for f in self._harmless(a, name, "none")[1]] for a in adapters]

    def _harmless(self, adapter: dict[str, Any], name: str, variant: str) -> tuple[str, str]:
        """Letters of the answers and of the rulings; planning tasks with the client's own tools."""
        if name in adapter["rows"]:
            return adapter["rows"][name][variant], self._found(adapter, name)
        given = "".join(adapter["plans"][of][variant]["verdicts"] for of in _TASKS)
        return given, "".join(self._found(adapter, f"{of}, tools sent") for of in _TASKS)

    def _plans(self, adapters: Sequence[dict[str, Any]], of: str, figure: str, arm: str) -> float:
        means = []
        for adapter in adapters:
            values = adapter["plans"][of]["prune" if "prune" in arm else "none"][figure]
            found = self._found(adapter, f"{of}, tools sent")
            means.append(
                fmean(
                    v if f == "a" or "guard" not in arm else 0.0 for v, f in zip(values, found, strict=True)
                )
            )
        return fmean(means)


if __name__ == "__main__":
    write_or_check("guarded", GuardedTables(load(RESULTS)))
