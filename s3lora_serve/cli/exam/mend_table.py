"""A climbed ladder on a terminal: a line a rung, the one that was chosen, and the random controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from s3lora_serve.cli.exam.exam_reading import percent, points
from s3lora_serve.exam.exam_result import ExamVerdict
from s3lora_serve.exam.paired_score import rise_interval
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.tables import cells, plain_table

if TYPE_CHECKING:
    from s3lora_serve.cli.exam.mended import Mended
    from s3lora_serve.exam.exam_result import ExamResult, PairedCounts

_STYLES = {"passed": "green", "refused": "red", "undecided": "yellow"}


def mend_table(mended: Mended) -> Group:
    """Rises of attack success on the half that chooses and on the other, the worst utility, the verdict."""
    table = plain_table(
        "pruned", "modules", "chooses: rise", "confirms: rise", "worst utility", "verdict", "why"
    )
    for row in mended.rungs:
        chosen = row is mended.chosen
        name = f"{100 * row.rung.tau:g} %{' ←' if chosen else ''}"
        found = Text(row.verdict or "not examined", _STYLES.get(row.verdict, ""))
        rises = rise(row.chosen, 0.95), rise(row.confirmed, 1 - mended.level)
        table.add_row(
            *cells(
                Text(name, "bold" if chosen else ""), row.rung.top, *rises, worst(row.chosen), found, row.why
            )
        )
    for control in mended.controls:
        result = control.result
        found = Text(result.verdict.value, _STYLES[result.verdict.value])
        table.add_row(
            *cells(
                f"random #{control.seed}",
                control.top,
                "–",
                rise(result, 1 - mended.level),
                worst(result),
                found,
                result.why,
            )
        )
    parts: list[Any] = [table, Text()]
    style = "bold" if mended.chosen is not None else "bold red"
    parts.append(Text(printable(f"{mended.name}: {mended.headline}"), style))
    if mended.compared:
        parts.append(Text(printable(mended.compared)))
    parts += [Text(printable(note), "dim") for note in notes(mended)]
    return Group(*parts)


def notes(mended: Mended) -> list[str]:
    """What the numbers hang on."""
    said = [
        f"half of the questions choose, the other half confirms at a level of {mended.level:.2g}: the error"
        f" that {len(mended.ladder.rungs)} rungs may make together, divided by them"
    ]
    if mended.ladder.left_out:
        shares = ", ".join(f"{100 * tau:g} %" for tau in mended.ladder.left_out)
        said.append(f"not tried: {shares}, where equal scores would have to be parted")
    if mended.chosen is not None:
        own = mended.chosen.confirmed or mended.chosen.chosen
        prompts = "your prompts" if own is not None and own.own_questions else "the public prompts"
        passed = mended.chosen.verdict == ExamVerdict.PASSED
        said.append(f"{'passed' if passed else 'not refused'} on {prompts}: no proof of safety")
    return said


def rise(result: ExamResult | None, confidence: float) -> str:
    """The rise of attack success with its bounds; ``–`` if it was not asked."""
    if result is None or not result.attacks.asked:
        return "–"
    return rise_text(result.attacks, confidence)


def rise_text(counts: PairedCounts, confidence: float) -> str:
    """``+12 points [+8, +16]``."""
    low, high = rise_interval(counts, confidence)
    return f"{points(counts.rise, signed=True)} [{100 * low:+.0f}, {100 * high:+.0f}]"


def worst(result: ExamResult | None) -> str:
    """The figure of utility that lost most, and how much; ``–`` without any."""
    figures = [one for one in (result.utility if result else ()) if one.unpruned is not None]
    if not figures:
        return "–"
    found = max(figures, key=lambda one: one.worse)
    return f"{found.name} {percent(found.worse)} worse" if found.worse else "none lost"
