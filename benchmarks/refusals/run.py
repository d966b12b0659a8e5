"""How well refusals are recognised: ``python benchmarks/refusals/run.py --data FOLDER`` writes a dated table.

FOLDER holds ``refusal_labels/*.csv`` (PyRIT's human labels) and ``advbench/`` (the 29 strings of the usual
check, and openings of compliance). Nothing of them is printed or written but counts.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import platform
import re
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.judging.refusal import Verdict, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Detector = Callable[[str, str], bool]  # answer, what was asked

SAME_BEGINNING = 8  # words: answers that begin alike are in the same part, so that no template is in both
CUT = 32  # words; evaluations cut answers after 32 tokens, which are fewer words
Z = 1.96  # two-sided 95 %


@dataclass(frozen=True)
class Row:
    """One labelled answer."""

    file: str
    objective: str
    answer: str
    refused: bool

    @property
    def part(self) -> str:
        """By a digest of the answer's beginning: rules were written on one part, and not shown the other."""
        words = re.findall(r"\w+", self.answer.lower())[:SAME_BEGINNING]
        return "held-out" if hashlib.sha256(" ".join(words).encode()).digest()[0] % 2 else "tuning"


def read_rows(folder: Path) -> list[Row]:
    """All labelled answers, file by file."""
    rows = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(encoding="utf-8", newline="") as opened:
            lines = list(dropwhile(lambda line: line.startswith("# "), opened))
        for row in csv.DictReader(lines):
            refused = row["human_score"].strip() == "1"
            rows.append(Row(file.stem, row["objective"], row["assistant_response"], refused))
    if not rows:
        raise SystemExit(f"{folder} has no labels: --data names the folder that holds refusal_labels/")
    return rows


def proper(rows: Sequence[Row]) -> list[Row]:
    """Without "refusals" of a question that another row's answer complied with.

    Those are, as far as they were read, answers exchanged between questions: their text refuses nothing.
    """
    answered = {row.objective for row in rows if not row.refused}
    return [row for row in rows if not (row.refused and row.objective in answered)]


def wilson(successes: int, total: int) -> str:
    """A share with its 95 % interval."""
    if not total:
        return "–"
    p, spread = successes / total, Z * Z / total
    half = Z * (p * (1 - p) / total + spread / (4 * total)) ** 0.5
    low, high = ((p + spread / 2 + sign * half) / (1 + spread) for sign in (-1, 1))
    return f"{p:.2f} ({low:.2f}–{high:.2f})"


def line(name: str, label: str, rows: Iterable[Row], detect: Detector, words: int | None) -> str:
    """One row of a table: counts, precision, recall, F1."""
    counts = Counter((row.refused, detect(cut(row.answer, words), row.objective)) for row in rows)
    hits, false, missed = counts[True, True], counts[False, True], counts[True, False]
    f1 = 2 * hits / (2 * hits + false + missed)
    return (
        f"| {name} | {label} | {hits + missed} | {false + counts[False, False]} | {hits} | {false} "
        f"| {wilson(hits, hits + false)} | {wilson(hits, hits + missed)} | {f1:.2f} |"
    )


def cut(answer: str, words: int | None) -> str:
    """The first ``words`` words as they were written, or all."""
    if words is None:
        return answer
    found = re.match(rf"(?:\s*\S+){{0,{words}}}", answer)
    return found[0] if found else ""


def table(rows: Sequence[Row], detectors: dict[str, Detector], words: int | None) -> list[str]:
    """Every part and file, each detector."""
    parts = {part: [row for row in rows if row.part == part] for part in ("tuning", "held-out")}
    files = {file: [row for row in rows if row.file == file] for file in sorted({row.file for row in rows})}
    return [
        "| rows | detector | refusals | others | found | false | precision | recall | F1 |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            line(name, label, some, detect, words)
            for name, some in {**parts, **files, "all": list(rows)}.items()
            if some
            for label, detect in detectors.items()
        ),
    ]


def on_compliance(file: Path, detectors: dict[str, Detector]) -> str:
    """False alarms on openings that comply with harmful requests."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    found = {label: sum(detect(r["target"], r["goal"]) for r in rows) for label, detect in detectors.items()}
    return f"Of AdvBench's {len(rows)} openings of compliance, taken for refusals: " + ", ".join(
        f"{count} by {label}" for label, count in found.items()
    )


def microseconds(rows: Sequence[Row], words: int | None) -> float:
    """Per answer, the fastest of twenty rounds."""
    texts = [cut(row.answer, words) for row in rows]
    rounds = []
    for _ in range(20):
        start = time.perf_counter()
        for text in texts:
            verdict(text)
        rounds.append(time.perf_counter() - start)
    return min(rounds) / len(texts) * 1e6


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="with refusal_labels/ and advbench/")
    parser.add_argument("--part", choices=("tuning", "all"), default="all", help="tuning: to write rules by")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / f"{date.today()}.md")
    options = parser.parse_args()

    strings = json.loads((options.data / "advbench/refusal_prefixes.json").read_text("utf-8"))["prefixes"]
    detectors: dict[str, Detector] = {
        f"{len(strings)} strings": lambda answer, _: any(string in answer for string in strings),
        "ours": lambda answer, asked: verdict(answer, asked) is Verdict.REFUSED,
    }
    everything = read_rows(options.data / "refusal_labels")
    shown = proper(everything)
    if options.part == "tuning":
        print("\n".join(table([row for row in shown if row.part == "tuning"], detectors, None)))
        return
    refused, other = ({row.answer for row in everything if row.refused is kind} for kind in (True, False))
    lines = [
        "# Refusals",
        "",
        f"{len(everything)} labelled answers, {len(refused | other)} of them distinct; "
        f"{len(refused & other)} stand with both labels. “Refusals proper” leaves out "
        f"{len(everything) - len(shown)} refusals of a question that another row's answer complies with.",
        "",
        f"Python {platform.python_version()}, {os.cpu_count()}-core {platform.machine()}: a verdict takes "
        f"{microseconds(everything, CUT):.0f} µs on answers cut after {CUT} words, "
        f"{microseconds(everything, None):.0f} µs on whole ones.",
    ]
    for title, rows in (("Refusals proper", shown), ("All labels", everything)):
        for words in (None, CUT):
            how = "whole answers" if words is None else f"cut after {words} words"
            lines += ["", f"## {title}, {how}", "", *table(rows, detectors, words)]
    lines += ["", on_compliance(options.data / "advbench/harmful_behaviors.csv", detectors) + "."]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
