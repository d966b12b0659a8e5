"""The figures as a Markdown page; needs nothing but their files."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from guard_cells import BASE_ROWS, GUARD, LONG_GUARD, PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Found = dict[str, Any]
DASH = "–"
SERVED = {
    "gpu": "Llama-3.1-8B's shape with dummy weights; one random adapter, r=16 on every projection, as two "
    "planners. The base's answers are replaced by a sentence that ends after 24 or 64 tokens (README.md).",
    "cpu": "SmolLM2-135M-Instruct and the demo's hotpot-planner, as two planners; the base's own answers.",
    "fake": "**Made up**: a rehearsal with the fake engine, which says nothing about any cost.",
}
TITLES = {
    PLAIN: "no guard",
    GUARD: "guard",
    LONG_GUARD: "guard, base writes 64",
    BASE_ROWS: "no guard, a base row each",
}
AIMS: tuple[tuple[str, int, str, float], ...] = (
    ("time", 1, "at most", 1.02),
    ("time", 16, "at most", 1.05),
    ("throughput", 16, "at least", 0.95),
    ("throughput", 64, "at least", 0.88),
)  # what, in flight, of one sentence


def page(results: Sequence[Found]) -> str:
    """The whole page; of a cell that stands in several results, the last one."""
    cells = {
        (cell["cell"]["name"], cell["cell"]["in_flight"]): cell
        for found in results
        for cell in found["cells"]
    }
    whole = [cell for cell in cells.values() if cell["blocks"]]
    machine = results[-1]["machine"]
    lines = [
        f"# What a guard by the base costs: {machine['device']}, {machine['date']}",
        "",
        f"{machine['device']}, {machine['cores']} CPU cores; {machine['engine']}, {machine['torch']}, Python "
        f"{machine['python']}. {SERVED[results[-1]['setting']]}",
        "",
        *_rows(whole),
    ]
    if results[-1]["setting"] == "gpu":
        lines += ["", *_aims(whole)]
    if notes := [note for found in results for note in found["notes"]]:
        lines += ["", "Notes of the run:", "", *(f"* {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def _rows(cells: Sequence[Found]) -> list[str]:
    lines = [
        "| request | in flight | with | requests | reads, writes, tokens | time, s: median (quartiles) "
        "| × (range, rounds) | per second | × (range, rounds) | guard reads, writes | verdict after, s |",
        "|---|---:|---|---:|---|---|---|---:|---|---|---:|",
    ]
    for cell in cells:
        about = cell["cell"]
        for arm in about["arms"]:
            blocks = [block for block in cell["blocks"] if block["arm"] == arm]
            requests = sum(block["requests"] for block in blocks)
            rate = statistics.median(block["per_second"] for block in blocks)
            lines.append(
                f"| {about['name']} | {about['in_flight']} | {TITLES[arm]} | {requests}"
                f" | {_mean(blocks, 'prompt_tokens')}, {_mean(blocks, 'output_tokens')} | {_times(blocks)}"
                f" | {_ratio(cell, arm, _median_time)} | {rate:.2f} | {_ratio(cell, arm, _rate)}"
                f" | {_guard_tokens(blocks)} | {_verdict_seconds(blocks)} |"
            )
    return lines


def _aims(cells: Sequence[Found]) -> list[str]:
    lines = ["| aim, one sentence | 24 tokens | 64 tokens | a base row each |", "|---|---|---|---|"]
    for what, in_flight, bound, limit in AIMS:
        cell = next((c for c in cells if _is(c, in_flight)), None)
        if cell is None:
            lines.append(f"| {what} {bound} {limit:.2f}× at {in_flight} | not measured | | |")
            continue
        figure = _median_time if what == "time" else _rate
        said = []
        for arm in (GUARD, LONG_GUARD, BASE_ROWS):
            found = statistics.median(ratios(cell, arm, figure))
            met = found <= limit if bound == "at most" else found >= limit
            said.append(f"{found:.3f}×" + ("" if arm == BASE_ROWS else ", met" if met else ", **missed**"))
        lines.append(f"| {what} {bound} {limit:.2f}× at {in_flight} | {' | '.join(said)} |")
    return lines


def _is(cell: Found, in_flight: int) -> bool:
    about = cell["cell"]
    return about["name"] == "one sentence" and about["in_flight"] == in_flight


def ratios(cell: Found, arm: str, figure: Callable[[Found], float]) -> list[float]:
    """The arm's figure by that of the requests without a guard, round by round."""
    of_plain = {block["round"]: figure(block) for block in cell["blocks"] if block["arm"] == PLAIN}
    blocks = [block for block in cell["blocks"] if block["arm"] == arm and block["round"] in of_plain]
    return [figure(block) / of_plain[block["round"]] for block in blocks]


def _ratio(cell: Found, arm: str, figure: Callable[[Found], float]) -> str:
    if arm == PLAIN:
        return "1"
    found = ratios(cell, arm, figure)
    return f"{statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)})"


def _median_time(block: Found) -> float:
    return statistics.median(block["seconds"])


def _rate(block: Found) -> float:
    return float(block["per_second"])


def _times(blocks: Sequence[Found]) -> str:
    seconds = [second for block in blocks for second in block["seconds"]]
    if len(seconds) < 2:
        return f"{seconds[0]:.3f}"
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _mean(blocks: Sequence[Found], what: str) -> str:
    return f"{statistics.fmean(block[what] for block in blocks):.0f}"


def _guard_tokens(blocks: Sequence[Found]) -> str:
    asked = sum(block["guard"]["asked_total"] for block in blocks)
    if not asked:
        return DASH
    read, wrote = (
        sum(block["guard"][f"{what}_tokens_total"] for block in blocks) for what in ("prompt", "output")
    )
    return f"{read / asked:.0f}, {wrote / asked:.0f}"


def _verdict_seconds(blocks: Sequence[Found]) -> str:
    count = sum(block["guard"]["seconds_count"] for block in blocks)
    return f"{sum(block['guard']['seconds_sum'] for block in blocks) / count:.3f}" if count else DASH
