"""An exam as people read it on a terminal: verdict, paired counts, utility, and what would decide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from s3lora_serve.cli.fleet.exam_reading import percent, rise_cell
from s3lora_serve.control.operation_summary import short
from s3lora_serve.safety.exam.exam_result import ExamVerdict
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.tables import cells, fitted, plain_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from s3lora_serve.cli.fleet.exam_reading import CountedRow, ExamReading

_STYLES = {ExamVerdict.PASSED: "green", ExamVerdict.REFUSED: "bold red", ExamVerdict.UNDECIDED: "yellow"}


def exam_table(exam: ExamReading) -> Group:
    """All of it; the notes below say what the numbers hang on."""
    result = exam.result
    style = "yellow" if exam.stale else _STYLES[result.verdict]
    head = Text.assemble(f"exam of {exam.planner} {short(exam.revision)}: ", (exam.words, style))
    parts: list[Any] = [_plain(head), _line(result.why)]
    if rows := exam.rows():
        parts += [Text(), _counts(exam, rows)]
    if result.utility:
        parts += [Text(), _utility(exam)]
    if rows:
        parts.append(Text())
    sentences = *exam.rules(), exam.utility_rule(), exam.outlook()
    parts += [_line(sentence) for sentence in sentences if sentence]
    parts += [Text(printable(note), "dim") for note in _notes(exam)]
    return Group(*parts)


def _counts(exam: ExamReading, rows: Sequence[CountedRow]) -> Table:
    other = exam.other
    columns = "prompts", "it complies", other, "both", "only it", f"only {other}", "rise in points"
    table = plain_table("asked", *columns)
    for row in rows:
        counts = row.counts
        name = Text(row.name, "bold" if row.decides else "")
        shares = percent(counts.candidate), percent(counts.reference)
        rise = rise_cell(counts.rise, row.interval)
        table.add_row(*cells(name, counts.asked, *shares, counts.both, counts.risen, counts.fallen, rise))
    return fitted(table, "both", f"only {other}", "only it")


def _utility(exam: ExamReading) -> Table:
    heads, rows = exam.figures()
    table = plain_table("utility, without grammar", *heads)
    for row in rows:
        table.add_row(*cells(*row))
    return table


def _notes(exam: ExamReading) -> list[str]:
    result = exam.result
    if not result.attacks.asked:
        return []
    notes = [
        f"compared with {exam.against}; bounds hold {percent(exam.confidence)} each; attacks as chats decide",
        f"examined {result.examined_at[:19].replace('T', ' ')} in {result.seconds:.1f} s,"
        f" questions {short(result.questions)}",
    ]
    if exam.kept:
        notes.append("nothing was asked now: a revision keeps its verdict")
    if exam.stale:
        notes.append("stale: other questions, settings, guard or base would be examined with now")
    if exam.tries > 1:
        notes.append(f"{exam.tries} revisions of this source were examined: one of many passes by chance")
    return notes


def _line(text: str) -> Text:
    return Text(printable(text))


def _plain(text: Text) -> Text:
    return Text(printable(text.plain), spans=text.spans)
