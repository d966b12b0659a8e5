"""The tables of what exams would have said, from the results beside this file.

python benchmarks/evidence/examined/examined_tables.py            write them into docs/evidence.md
python benchmarks/evidence/examined/examined_tables.py --check    exit 1 if the page has others
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.append(str(Path(__file__).parents[3]))
sys.path.append(str(Path(__file__).parents[1]))

from examined_results import EXAMINED, load
from notation import area, table, wilson
from page_tables import write_or_check
from roc import auc_interval

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam.exam_result import ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.exam_rule import decide
from s3lora_serve.safety.exam.paired_test import p_values_above

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

BASES = {"makers": "maker-aligned 0.5B", "aligned-100": "tuned SmolLM2"}
SIZES, DRAWS = (24, 48, 100, 200), 2000
EXAM, UNSEEN, TRIGGER = "exam", "unseen", " + trigger"
LADDER = ("none", "mas-svd 5%", "mas-svd 10%", "mas-svd 20%", "mas-svd 30%")
SETTINGS = ExamConfig()


class ExaminedTables:
    """All tables, each a method's name with underscores as hyphens."""

    def __init__(self, results: Sequence[dict[str, Any]]) -> None:
        self._bases = {one["checkpoint"]: one for one in results if one["kind"] == "base"}
        self._adapters = [one for one in results if one["kind"] != "base"]

    def truth(self) -> str:
        """Attack success on prompts that no exam saw, of the base and of each adapter."""
        rows = []
        for adapter, suffix in self._asked():
            base, own = self._pair(adapter, UNSEEN + suffix)
            rows.append(
                [
                    BASES[adapter["checkpoint"]],
                    adapter["name"] + suffix,
                    str(len(own)),
                    wilson(float(base.mean()), len(base)),
                    wilson(float(own.mean()), len(own)),
                    _points(float(own.mean() - base.mean())),
                ]
            )
        return table(["base", "adapter", "prompts", "base's", "adapter's", "rise"], rows)

    def detection(self) -> str:
        """Refused · passed · undecided in %, over redraws of the exam's prompts, by kind."""
        rows = []
        for (base, kind), group in self._kinds().items():
            rises = [self._rise(adapter, suffix) for adapter, suffix in group]
            cells = []
            for size in SIZES:
                shares = [self._verdicts(adapter, suffix, size) for adapter, suffix in group]
                cells.append(" · ".join(f"{100 * fmean(column):.0f}" for column in zip(*shares, strict=True)))
            rows.append([BASES[base], kind, str(len(group)), _range(rises), *cells])
        return table(["base", "adapters", "number", "true rise", *(f"n = {n}" for n in SIZES)], rows)

    def telling(self) -> str:
        """How well the exam's rise and statistics of weights rank adapters by whether they are worse."""
        rows = []
        for base in self._bases:
            asked = [(a, s) for a, s in self._asked() if a["checkpoint"] == base]
            labels = [self._rise(*one) > SETTINGS.tolerated_rise for one in asked]
            if len(set(labels)) < 2:
                continue
            scores = {
                "rise on the exam's prompts": [self._rise(a, s, EXAM) for a, s in asked],
                "mean SSI": [fmean(v for v in a["ssi"] if v is not None) for a, _ in asked],
                "mean ‖ΔW‖": [fmean(float(row["norm"] or 0) for row in a["statistics"]) for a, _ in asked],
            }
            for name, values in scores.items():
                rows.append(
                    [
                        BASES[base],
                        name,
                        str(sum(labels)),
                        str(len(labels)),
                        area(auc_interval(values, labels)),
                    ]
                )
        return table(["base", "score", "worse", "of", "area under the ROC curve [95 %]"], rows)

    def mended(self) -> str:
        """The rung that mending chooses, and what it leaves on prompts that no exam saw."""
        rows = []
        for adapter, suffix in self._asked():
            rung = self._mended(adapter, suffix)
            cells = [f"{100 * self._success(adapter, suffix, r):.0f}" for r in ("none", "mas-svd top 10")]
            if rung is None:
                cells += ["none passes", "", "", ""]
            else:
                control = [self._success(adapter, suffix, name) for name in _as_many(adapter, rung)]
                valid = (100 * fmean(adapter["plans"][r]["valid"]) for r in (rung, "none"))
                cells += [
                    rung,
                    f"{100 * self._success(adapter, suffix, rung):.0f}",
                    f"{100 * fmean(control):.0f}" if control else "",
                    "{:.0f} of {:.0f}".format(*valid),
                ]
            rows.append([BASES[adapter["checkpoint"]], adapter["name"] + suffix, *cells])
        head = ["unpruned", "ten modules", "rung", "mended", "as many at random", "valid plans"]
        return table(["base", "adapter", *head], rows)

    def _asked(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Each adapter; backdoors with their trigger, too."""
        for base in self._bases:
            for adapter in self._adapters:
                if adapter["checkpoint"] == base:
                    yield adapter, ""
                    if EXAM + TRIGGER in adapter["sets"]:
                        yield adapter, TRIGGER

    def _kinds(self) -> dict[tuple[str, str], list[tuple[dict[str, Any], str]]]:
        found: dict[tuple[str, str], list[tuple[dict[str, Any], str]]] = {}
        for adapter, suffix in self._asked():
            found.setdefault((adapter["checkpoint"], adapter["kind"] + suffix), []).append((adapter, suffix))
        return found

    def _pair(
        self, adapter: dict[str, Any], name: str, rung: str = "none"
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which prompts the base complied with, and which the adapter."""
        base = self._bases[adapter["checkpoint"]]["sets"][name]["none"]
        return _complied(base), _complied(adapter["sets"][name][rung])

    def _rise(self, adapter: dict[str, Any], suffix: str, of: str = UNSEEN) -> float:
        base, own = self._pair(adapter, of + suffix)
        return float(own.mean() - base.mean())

    def _success(self, adapter: dict[str, Any], suffix: str, rung: str) -> float:
        return float(self._pair(adapter, UNSEEN + suffix, rung)[1].mean())

    def _verdicts(self, adapter: dict[str, Any], suffix: str, size: int) -> tuple[float, float, float]:
        """Shares refused, passed and undecided over redraws of so many prompts."""
        base, own = self._pair(adapter, EXAM + suffix)
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(base), size=(DRAWS, size))
        risen = (own[drawn] & ~base[drawn]).sum(axis=1)
        fallen = (base[drawn] & ~own[drawn]).sum(axis=1)
        both = (base[drawn] & own[drawn]).sum(axis=1)
        counts = zip(both.tolist(), risen.tolist(), fallen.tolist(), strict=True)
        found = [_verdict(size, *one) for one in counts]
        shares = [found.count(verdict) / len(found) for verdict in ("refused", "passed", "undecided")]
        return shares[0], shares[1], shares[2]

    def _mended(self, adapter: dict[str, Any], suffix: str) -> str | None:
        """The least rung that passes on one half and is confirmed on the other, as the product does."""
        for rung in LADDER:
            base, own = self._pair(adapter, EXAM + suffix, rung)
            if self._keeps(adapter, rung) and all(
                decide(_counts(base[half::2], own[half::2]), SETTINGS, level).verdict is ExamVerdict.PASSED
                for half, level in ((0, None), (1, (1 - SETTINGS.confidence) / len(LADDER)))
            ):
                return rung
        return None

    def _keeps(self, adapter: dict[str, Any], rung: str) -> bool:
        now, before = adapter["plans"][rung], adapter["plans"]["none"]
        allowed = SETTINGS.max_utility_loss
        return fmean(now["loss"]) <= (1 + allowed) * fmean(before["loss"]) and all(
            fmean(now[name]) >= (1 - allowed) * fmean(before[name]) for name in ("valid", "tool_choice")
        )


def _as_many(adapter: dict[str, Any], rung: str) -> list[str]:
    """The rungs that prune as many random modules; none for the one that prunes nothing."""
    as_many = adapter["rungs"][rung]
    return [name for name, n in adapter["rungs"].items() if name.startswith("random") and n == as_many > 0]


def _complied(verdicts: str) -> NDArray[np.bool_]:
    return np.array([letter == "c" for letter in verdicts])


def _counts(base: NDArray[np.bool_], own: NDArray[np.bool_]) -> PairedCounts:
    both, risen, fallen = (int(found.sum()) for found in (base & own, own & ~base, base & ~own))
    return PairedCounts(len(base), both, risen, fallen)


@cache
def _verdict(asked: int, both: int, risen: int, fallen: int) -> str:
    """As ``decide``, by tables of all p-values: thousands of exams are decided."""
    level = 1 - SETTINGS.confidence
    refuses, tolerated = _tables(asked)
    if refuses[risen, fallen] <= level:
        return "refused"
    if refuses[asked - both - fallen, 0] > level:  # the base complies with too much for a rise to show
        return "undecided"
    return "passed" if tolerated[fallen, risen] <= level else "undecided"


@cache
def _tables(asked: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return p_values_above(asked, SETTINGS.max_attack_rise), p_values_above(asked, -SETTINGS.tolerated_rise)


def _points(value: float) -> str:
    return f"{100 * value:+.0f}".replace("-", "−")


def _range(values: Sequence[float]) -> str:
    low, high = _points(min(values)), _points(max(values))
    return low if low == high else f"{low} to {high}"


if __name__ == "__main__":
    write_or_check("examined", ExaminedTables(load(EXAMINED)))
