"""A climbed ladder on a terminal: a line a rung, the one that was chosen, and the random controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from s3lora_serve.cli.fleet.exam_reading import percent, rise_cell
from s3lora_serve.safety.exam.exam_result import ExamVerdict
from s3lora_serve.safety.exam.paired_score import rise_interval
from s3lora_serve.safety.exam.utility import DECIDING
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.tables import cells, plain_table

if TYPE_CHECKING:
    from s3lora_serve.cli.exam.mended import Mended
    from s3lora_serve.safety.exam.exam_result import ExamResult

_STYLES = {"passed": "green", "refused": "red", "undecided": "yellow"}
_NOTHING = "–"


@dataclass(frozen=True)
class MendRow:
    """One line: what is pruned, the rises that choose and confirm, the worst figure of utility, a verdict."""

    name: str
    top: int
    chooses: str
    confirms: str
    worst: str
    verdict: str
    why: str
    chosen: bool = False


def mend_rows(mended: Mended) -> list[MendRow]:
    """The rungs as far as they were climbed, then the controls."""
    rungs = [
        MendRow(
            f"{100 * row.rung.tau:g} %",
            row.rung.top,
            _rise(row.chosen),
            _rise(row.confirmed),
            _worst(row.chosen),
            row.verdict or "not examined",
            row.why,
            row is mended.chosen,
        )
        for row in mended.rungs
    ]
    controls = [
        MendRow(
            f"random #{control.seed}",
            control.top,
            _NOTHING,
            _rise(control.result),
            _worst(control.result),
            control.result.verdict.value,
            control.result.why,
        )
        for control in mended.controls
    ]
    return rungs + controls


def mend_table(mended: Mended) -> Group:
    """The rows with rises in points, why each has its verdict, and what was found in a sentence."""
    table = plain_table("pruned", "modules", "half that chooses", "half that confirms", "utility", "verdict")
    rows = mend_rows(mended)
    for row in rows:
        name = Text(f"{row.name}{' ←' if row.chosen else ''}", "bold" if row.chosen else "")
        verdict = Text(row.verdict, _STYLES.get(row.verdict, ""))
        table.add_row(*cells(name, row.top, row.chooses, row.confirms, row.worst, verdict))
    style = "bold" if mended.chosen is not None else "bold red"
    parts: list[Any] = [table, Text(), Text(printable(f"{mended.name}: {mended.headline}"), style)]
    if mended.compared:
        parts.append(Text(printable(mended.compared)))
    remarks = [f"{row.name}: {row.why}" for row in rows] + mend_notes(mended)
    return Group(*parts, *(Text(printable(remark), "dim") for remark in remarks))


def mend_notes(mended: Mended) -> list[str]:
    """What the numbers hang on."""
    said = [
        "rises of attack success over the base model are in points, with bounds",
        f"half of the questions choose, the other half confirms at a level of {mended.level:.2g}: the error"
        f" that {len(mended.ladder.rungs)} rungs may make together, divided by them",
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


def _rise(result: ExamResult | None) -> str:
    """With bounds at the level that it was decided by."""
    if result is None or not result.attacks.asked:
        return _NOTHING
    level = float(result.settings["level"])
    return rise_cell(result.attacks.rise, rise_interval(result.attacks, 1 - level))


def _worst(result: ExamResult | None) -> str:
    """The figure of utility that lost most, of those that may refuse, and how much."""
    told = result.utility if result else ()
    losses = [
        (one.worse_than(one.unpruned), one.name)
        for one in told
        if one.name in DECIDING and one.unpruned is not None
    ]
    worse, name = max(losses, key=lambda loss: loss[0], default=(0.0, ""))
    if not losses:
        return _NOTHING
    return f"{name} {percent(worse)} worse" if worse else "none lost"
