"""An operation as people read it: what was ordered, what became of it, and how long each part took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from s3lora_serve.cli.fleet.exam_reading import ExamReading
from s3lora_serve.cli.fleet.exam_table import exam_table
from s3lora_serve.control.operation import Kind
from s3lora_serve.control.operation_summary import short
from s3lora_serve.errors import ControlError
from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import OK, REFUSED, out, say, say_error
from s3lora_serve.terminal.tables import cells, plain_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# In the order in which they pass; what the server adds later is shown after them.
_STAGES = ("admit", "load", "probe", "trial", "exam", "commit", "flip", "drain")
_MARKS = {
    "added": ("+", "green"),
    "removed": ("-", "red"),
    "changed": ("~", "yellow"),
    "described": ("~", ""),
}
_SHOWN_IDS = 5


def outcome(operation: Mapping[str, Any], *, waited: bool) -> int:
    """The exit code that an operation's state stands for: 0 done, or begun if the caller does not wait.

    That of an exam is its verdict's.
    """
    if (exam := exam_of(operation)) is not None:
        return exam.exit_code
    if operation["ended"]:
        return OK if operation["step"] == "done" else REFUSED
    return REFUSED if waited else OK


def show_operation(operation: Mapping[str, Any], *, waited: bool, same: str) -> None:
    """Say on stdout what an operation did, on stderr why it failed or that it still runs.

    ``same`` are the options with which a suggested command asks the same server.
    """
    subject, id_ = _subject(operation), str(operation["id"])
    if not operation["ended"]:
        why = "still runs" if waited else "has begun"
        _line(Text(f"{subject}: operation {id_} {why} ({operation['step']})"))
        say(f"follow it with: s3lora wait {id_}{same}", "dim")
        return
    if operation["step"] != "done":
        hint = (operation.get("error") or {}).get("hint") or ""
        say_error(ControlError(str(operation["summary"]), hint=str(hint)), subject)
        return
    _show_done(operation, subject)
    cut = [str(request) for request in operation.get("cut") or ()]
    if cut:
        more = f" and {len(cut) - _SHOWN_IDS} more" if len(cut) > _SHOWN_IDS else ""
        ids = ", ".join(cut[:_SHOWN_IDS])
        say(f"{len(cut)} requests outlasted the drain deadline and were cut: {ids}{more}", "yellow")


def exam_of(operation: Mapping[str, Any]) -> ExamReading | None:
    """What an exam by order found, once it is done. Raises ControlError if it cannot be read."""
    found = (operation.get("details") or {}).get("exam")
    if operation["kind"] != Kind.EXAM or operation["step"] != "done" or not found:
        return None
    kept = bool(operation["details"].get("kept"))
    return ExamReading.of(found, str(operation["planner"]), str(operation["to_digest"]), kept=kept)


def show_changes(changes: Sequence[Mapping[str, Any]]) -> None:
    """The difference between what is declared and what was applied: + added, - removed, ~ changed."""
    table = plain_table("", "planner", "what", "before", "after", fold=("before",))
    for change in changes:
        mark, style = _MARKS.get(str(change["what"]), ("?", ""))
        before, after = _differing(change.get("before") or {}, change.get("after") or {})
        table.add_row(Text(mark, style), *cells(change["planner"], change["what"], before, after))
    out.print(table)


def took(seconds: float) -> str:
    """A duration with the digits that matter: ``0.4 ms``, ``120 ms``, ``3.2 s``, ``4 min``."""
    if seconds < 0.01:
        return f"{seconds * 1000:.2g} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def ordered(operation: Mapping[str, Any]) -> str:
    """What was ordered, about which planner: ``swap math``, ``swap (dry run) math``."""
    dry = " (dry run)" if (operation.get("details") or {}).get("dry_run") else ""
    return f"{operation['kind']}{dry} {operation['planner'] or ''}".strip()


def _subject(operation: Mapping[str, Any]) -> str:
    return f"{operation['kind']} {operation['planner'] or ''}".strip()


def _show_done(operation: Mapping[str, Any], subject: str) -> None:
    details: Mapping[str, Any] = operation.get("details") or {}
    if (exam := exam_of(operation)) is not None:
        out.print(exam_table(exam))
        return
    if isinstance(details.get("would"), dict) and details.get("dry_run"):
        _show_comparison(details["would"])
    nothing = details.get("changes") == []
    if details.get("dry_run") and not nothing:
        _line(Text(f"dry run: {operation['summary']}"))
    elif details.get("same") or nothing:
        _line(Text(str(operation["summary"])))
    else:
        _line(Text.assemble(("✓ ", "green"), f"{subject}: {operation['summary']}", _timings(operation)))


def _timings(operation: Mapping[str, Any]) -> Text:
    seconds: Mapping[str, float] = operation.get("seconds") or {}
    names = [*(n for n in _STAGES if n in seconds), *(n for n in seconds if n not in _STAGES)]
    parts = [f"{name} {took(seconds[name])}" for name in names]
    return Text(f"  ({', '.join(parts)})" if parts else "", "dim")


def _show_comparison(would: Mapping[str, Any]) -> None:
    table = plain_table("", "revision", "source", "kept", "pruned", "SSI max", "SSI median", fold=("source",))
    for role in ("serving", "wanted"):
        facts: Mapping[str, Any] = would.get(role) or {}
        table.add_row(
            *cells(
                role,
                short(facts.get("revision")),
                facts.get("source") or "-",
                facts.get("kept_modules", "-"),
                len(facts.get("pruned_modules") or ()),
                _number(facts.get("ssi_max")),
                _number(facts.get("ssi_median")),
            )
        )
    out.print(table)
    for warning in (would.get("wanted") or {}).get("warnings") or ():
        say(f"note: {warning}", "yellow")


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str]:
    """Both sides of a change, with only the keys in which they differ."""
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not keys:  # two folders of one name: the server shows no paths
        return f"source: {old.get('source', '-')}", f"source: {new.get('source', '-')}, in another folder"

    def side(values: Mapping[str, Any]) -> str:
        return "\n".join(f"{key}: {_value(values[key])}" for key in keys if values.get(key) not in (None, ""))

    return side(old) or "-", side(new) or "-"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items() if inner is not None)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def _line(text: Text) -> None:
    out.print(Text(printable(text.plain), spans=text.spans), soft_wrap=True, highlight=False)
