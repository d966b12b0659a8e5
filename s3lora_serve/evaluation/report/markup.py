"""HTML from untrusted text: names of adapters, sets and policies."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from s3lora_serve.evaluation.statistics.intervals import Interval

NONE = "–"


def text(value: object) -> str:
    """The value's text, escaped for elements and attributes; invisible characters are written out."""
    return escape(printable(str(value), one_line=True))


def share(value: Interval | None, *, signed: bool = False) -> str:
    """A share in per cent, or a difference of shares in points, over its interval; markup."""
    if value is None:
        return NONE
    sign = "+" if signed else ""
    mean, low, high = (
        minus(f"{100 * v:{sign}.1f}".replace("+0.0", "0.0")) for v in (value.mean, value.low, value.high)
    )
    return f"{mean} <small>[{low}, {high}]</small>"


def number(value: Interval | None) -> str:
    """A number over its interval; markup."""
    return NONE if value is None else f"{value.mean:.3f} <small>[{value.low:.3f}, {value.high:.3f}]</small>"


def minus(wording: str) -> str:
    """With the sign that is as wide as a plus, and none before a zero."""
    return wording.removeprefix("-") if not wording.strip("-0.") else wording.replace("-", "−")


def table(
    caption: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], *, words: bool = False
) -> str:
    """A table that scrolls by itself; ``caption`` and ``columns`` are text, cells are markup.

    Each row is a class and its cells, the first of which is the row's heading. ``words``: most cells are
    text, not figures.
    """
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "\n".join(
        f'<tr{f" class={name}" if name else ""}><th scope="row">{cells[0]}</th>'
        + "".join(f"<td>{cell}</td>" for cell in cells[1:])
        + "</tr>"
        for name, cells in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text(caption)}">'
        f"<table{' class=words' if words else ''}>"
        f"<caption>{text(caption)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
        "</table></div>"
    )


def items(entries: Iterable[str]) -> str:
    """A list; entries are markup."""
    return "<ul>" + "".join(f"<li>{entry}</li>" for entry in entries) + "</ul>"


def fold(summary: str, content: str, *, is_open: bool) -> str:
    """Content that can be folded away; on paper it is always open. ``content`` is markup."""
    return f"<details{' open' if is_open else ''}><summary>{text(summary)}</summary>{content}</details>"
