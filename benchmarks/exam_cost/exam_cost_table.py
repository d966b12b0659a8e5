"""The figures as a Markdown page; needs nothing but their file."""

from __future__ import annotations

import statistics
from typing import Any

from exam_arms import NONE

Found = dict[str, Any]
SERVED = {
    "gpu": "Llama-3.1-8B's shape with dummy weights, random adapters of r=16 on every projection",
    "cpu": "SmolLM2-135M-Instruct and the demo's adapters",
    "fake": "**made up**: a rehearsal with the fake engine, which says nothing about any cost",
}
AIMS = (
    ("48 attacks, chats", "adds at most 2 s to a swap", "added", 2.0),
    ("200 attacks, chats", "adds at most 5 s to a swap", "added", 5.0),
    ("200 attacks, chats", "background inter-token p99 at most 1.2×", "p99", 1.2),
)


def page(found: Found) -> str:
    """The whole page."""
    machine = found["machine"]
    swaps = [swap for swap in found["swaps"] if swap["error"] is None]
    arms = list(dict.fromkeys(swap["arm"] for swap in sorted(swaps, key=lambda s: s["arm"] != NONE)))
    lines = [
        f"# What an exam costs: {machine['device']}, {machine['date']}",
        "",
        f"{machine['device']}, {machine['cores']} CPU cores; {machine['engine']}, {machine['torch']}, "
        f"Python {machine['python']}. {SERVED[found['setting']]}; {found['clients']} clients stream chats of "
        "another planner without pause.",
        "",
        "| exam | swaps | swap, s: median (range) | exam, s: median (range) | inter-token p50, p99, ms: "
        "quiet | during the exam | p99 × (range) | first token p99, ms: quiet | during |",
        "|---|--:|---|---|---|---|---|--:|--:|",
        *(_row(arm, [swap for swap in swaps if swap["arm"] == arm]) for arm in arms),
    ]
    if found["setting"] == "gpu":
        lines += ["", "| aim | measured |", "|---|---|", *(_aim(swaps, *aim) for aim in AIMS)]
    failed = [
        f"round {swap['round']}, {swap['arm']}: {swap['error']}" for swap in found["swaps"] if swap["error"]
    ]
    if notes := [*found["notes"], *failed, *sorted(set(found["errors"]))]:
        lines += ["", "Notes of the run:", "", *(f"* {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _row(arm: str, swaps: list[Found]) -> str:
    totals, exams = [swap["total"] for swap in swaps], [swap["seconds"].get("exam", 0.0) for swap in swaps]
    during = "exam" if arm != NONE else "whole"
    quiet, asked = _all(swaps, "quiet", "gaps"), _all(swaps, during, "gaps")
    firsts = _all(swaps, "quiet", "firsts"), _all(swaps, during, "firsts")
    ratios = p99_ratios(swaps, during)
    times = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "–"
    label = f"{arm} (during the swap)" if arm == NONE else arm
    return (
        f"| {label} | {len(swaps)} | {_range(totals)} | {_range(exams) if any(exams) else '–'}"
        f" | {_two(quiet)} | {_two(asked)} | {times} | {_p99(firsts[0])} | {_p99(firsts[1])} |"
    )


def _aim(swaps: list[Found], arm: str, says: str, what: str, limit: float) -> str:
    of_arm = [swap for swap in swaps if swap["arm"] == arm]
    found = [swap["seconds"].get("exam", 0.0) for swap in of_arm] if what == "added" else p99_ratios(of_arm)
    if not found:
        return f"| {arm}: {says} | not measured |"
    middle = statistics.median(found)
    unit = "s" if what == "added" else "×"
    return f"| {arm}: {says} | {middle:.2f} {unit}, {'met' if middle <= limit else '**missed**'} |"


def p99_ratios(swaps: list[Found], during: str = "exam") -> list[float]:
    """Inter-token p99 during each exam by that of the quiet seconds before its swap."""
    return [
        _quantile(swap[during]["gaps"]) / _quantile(swap["quiet"]["gaps"])
        for swap in swaps
        if swap[during] and len(swap[during]["gaps"]) >= 100 and len(swap["quiet"]["gaps"]) >= 100
    ]


def _all(swaps: list[Found], when: str, what: str) -> list[float]:
    return [value for swap in swaps if swap[when] for value in swap[when][what]]


def _quantile(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _p99(values: list[float]) -> str:
    return f"{_quantile(values):.0f}" if len(values) > 1 else "–"


def _two(values: list[float]) -> str:
    return f"{statistics.median(values):.1f}, {_quantile(values):.1f}" if len(values) > 1 else "–"


def _range(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
