"""The figures of all columns side by side, as a Markdown page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

Figures = dict[str, Any]
DASH = "–"


def page(
    columns: list[Figures], machine: dict[str, str], plan: dict[str, Any], control: Figures | None
) -> str:
    """The whole page."""
    lines = [
        f"# Swapping adapters under load, {machine['date']}",
        "",
        f"{machine['device']}; {machine['vllm']}, torch {machine['torch']}, Python {machine['python']}. "
        f"Base model: {machine['base']}; adapters: rank 16, every projection of every layer, "
        f"{machine['adapter_mb']} MB.",
        "",
        f"{plan['swaps']} swaps in {plan['blocks']} blocks, {plan['interval']:g} s apart, each block after "
        f"{plan['quiet']:g} s without a swap; five clients ask without pause (two planners that are swapped, "
        "one that never is, the base model). The columns ran one after the other in one run. "
        "[README](README.md) says what each row is.",
        "",
        "| | " + " | ".join(column["title"] for column in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for label, cell in ROWS:
        cells = [cell(column) for column in columns]
        if any(text != DASH for text in cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    ratio = _load_ratio(columns)
    if ratio:
        lines += ["", ratio]
    if control:
        lines += ["", *_control(control)]
    for column in columns:
        crashes = [
            f"after {crash['after_swaps']} swaps: `{crash['cause']}`" for crash in column["crashes"][:3]
        ]
        notes = [note.splitlines()[0] for note in column["notes"][:3]]
        failures = [f"{count} × {what}" for what, count in column["errors"].items()]
        if crashes or notes or failures:
            lines += ["", f"**{column['title']}**: " + "; ".join([*failures, *crashes, *notes]) + "."]
    return "\n".join(lines) + "\n"


def _of(column: Figures, *path: str) -> Any:
    found: Any = column
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _count(*path: str) -> Callable[[Figures], str]:
    return lambda column: DASH if (found := _of(column, *path)) is None else f"{found}"


def _pair(*path: str) -> Callable[[Figures], str]:
    """p50 / p99 in milliseconds."""

    def cell(column: Figures) -> str:
        found = _of(column, *path)
        return DASH if not found else f"{_ms(found['p50'])} / {_ms(found['p99'])}"

    return cell


def _median_seconds(*path: str) -> Callable[[Figures], str]:
    """Median of few, and the largest, in seconds."""

    def cell(column: Figures) -> str:
        found = _of(column, *path)
        return DASH if not found else f"{found['p50']:.1f} (max {found['max']:.1f}, n={found['count']})"

    return cell


def _ms(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _failed(column: Figures) -> str:
    down = column["errors"].get("ConnectError", 0)
    return f"{column['answers']['failed']}" + (f" ({down} while nothing listened)" if down else "")


def _answers(column: Figures) -> str:
    return str(sum(column["answers"].values()))


def _swaps_done(column: Figures) -> str:
    found = [
        group for name, group in column["swaps"].items() if not name.startswith("alone") and group["count"]
    ]
    failed = sum(group["failed"] for group in found)
    return f"{sum(group['count'] for group in found)}" + (f", {failed} refused" if failed else "")


def _gap_ratio(column: Figures) -> str:
    quiet, swaps = _of(column, "gaps", "quiet"), _of(column, "gaps", "swaps")
    return DASH if not quiet or not swaps else f"{swaps['p99'] / quiet['p99']:.2f}"


def _rate(phase: str) -> Callable[[Figures], str]:
    def cell(column: Figures) -> str:
        found = _of(column, "tokens_per_second", phase)
        return DASH if found is None else f"{found:.0f}"

    return cell


def _memory(column: Figures) -> str:
    memory = column["memory"]
    last = max(memory, key=int, default="0")
    if "10" not in memory or last == "10":
        return DASH
    if column["crashes"]:
        return "it was restarted"
    return f"{memory['10']['rss']:.0f} → {memory[last]['rss']:.0f} (after {last})"


def _orphans(column: Figures) -> str:
    left = _of(column, "orphans")
    return str(max(left)) if left else DASH


def _load_ratio(columns: list[Figures]) -> str:
    """Our load against the bare call in vLLM's own server, alone and under the same load."""
    by_name = {column["name"]: column for column in columns}
    if not {"ours", "reload"} <= by_name.keys():
        return ""
    said = []
    for phase in ("alone", "swaps"):
        ours = _of(by_name["ours"], "swaps", f"{phase}, revision", "stages", "load")
        bare = _of(by_name["reload"], "swaps", f"{phase}, revision", "stages", "load")
        if ours and bare:
            when = "without load" if phase == "alone" else "under load"
            said.append(
                f"{when} {ours['p50'] / bare['p50']:.2f}× ({_ms(ours['p50'])} against {_ms(bare['p50'])} ms)"
            )
    return (
        f"Our load stage against `add_lora` alone in vLLM's server, medians: {'; '.join(said)}."
        if said
        else ""
    )


def _control(control: Figures) -> list[str]:
    return [
        f"The detector was tried first: {control['right']} of {control['revisions']} revisions answered with "
        "their own word and no other, in batches with each other and with the base model. "
        "New weights that are loaded in place under an unchanged path are missed by vLLM's prefix cache; "
        f"this was seen as: {control['same_path']}."
    ]


_SWAP = ("swaps", "swaps, revision")
ROWS: list[tuple[str, Callable[[Figures], str]]] = [
    ("answers judged", _answers),
    ("swaps under load, rollbacks included", _swaps_done),
    ("**failed** requests", _failed),
    ("**stale** answers", _count("answers", "stale")),
    ("**mixed** answers (two revisions in one)", _count("answers", "mixed")),
    ("answers with nobody's words", _count("answers", "foreign")),
    ("times the server died by itself", lambda column: str(len(column["crashes"]))),
    ("swap to a known revision, p50 / p99, ms", _pair(*_SWAP, "wall")),
    ("… by the server's own clock, sum of its stages", _pair(*_SWAP, "own")),
    ("… load (`add_lora`)", _pair(*_SWAP, "stages", "load")),
    ("… probe", _pair(*_SWAP, "stages", "probe")),
    ("… trial", _pair(*_SWAP, "stages", "trial")),
    ("… commit", _pair(*_SWAP, "stages", "commit")),
    ("… flip", _pair(*_SWAP, "stages", "flip")),
    ("… unload before the load", _pair(*_SWAP, "stages", "unload")),
    ("swap to a new adapter, p50 / p99, ms", _pair("swaps", "first, source", "wall")),
    ("… admission", _pair("swaps", "first, source", "stages", "admit")),
    ("swap without any load, p50 / p99, ms", _pair("swaps", "alone, revision", "wall")),
    ("… load (`add_lora`)", _pair("swaps", "alone, revision", "stages", "load")),
    ("rollback, p50 / p99, ms", _pair("swaps", "rollbacks, rollback", "wall")),
    ("… by the server's own clock", _pair("swaps", "rollbacks, rollback", "own")),
    ("… commit", _pair("swaps", "rollbacks, rollback", "stages", "commit")),
    ("… flip", _pair("swaps", "rollbacks, rollback", "stages", "flip")),
    ("other planner's gap between tokens, no swaps, p50 / p99, ms", _pair("gaps", "quiet")),
    ("the same with swaps", _pair("gaps", "swaps")),
    ("… p99 with ÷ without", _gap_ratio),
    ("tokens per second of all clients, no swaps", _rate("quiet")),
    ("the same with swaps", _rate("swaps")),
    ("memory of all processes, RSS, MiB: after 10 swaps → at the end", _memory),
    ("engine killed: noticed, s", _median_seconds("recovery", "engine: noticed")),
    ("engine killed: right answer again, s", _median_seconds("recovery", "engine: first answer")),
    ("server killed: right answer again, s", _median_seconds("recovery", "server: first answer")),
    ("… processes that outlived it and held their memory", _orphans),
    ("first start, s", lambda column: f"{column['start_seconds']:.1f}"),
]
