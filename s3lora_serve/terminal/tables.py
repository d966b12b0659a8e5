"""Tables as the commands print them: no frames, and control characters are escaped."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from s3lora_serve.storage.printable import printable
from s3lora_serve.terminal.console import out


def plain_table(*columns: str, fold: tuple[str, ...] = ()) -> Table:
    """An empty table with these headings.

    Where the terminal is narrow only the last column and those in ``fold`` are folded: names and digests are
    there to be copied.
    """
    table = _empty()
    for column in columns:
        folded = column in fold or column == columns[-1]
        table.add_column(column, no_wrap=not folded, overflow="fold" if folded else "ellipsis")
    return table


def fitted(table: Table, *spare: str) -> Table:
    """The table without as many of the ``spare`` columns, in this order, as do not fit the terminal.

    ``--json`` has them all.
    """
    unbounded = out.options.update_width(10_000)
    for header in spare:
        if out.measure(table, options=unbounded).maximum <= out.width:
            break
        table = _without(table, header)
    return table


def _empty() -> Table:
    return Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))


def _without(table: Table, header: str) -> Table:
    # Made anew: a table whose columns are taken out goes on measuring the others by their old places.
    kept = [column for column in table.columns if column.header != header]
    smaller = _empty()
    for column in kept:
        smaller.add_column(column.header, no_wrap=column.no_wrap, overflow=column.overflow)
    for row in zip(*(column.cells for column in kept), strict=True):
        smaller.add_row(*row)
    return smaller


def cells(*values: object) -> list[Text]:
    """The cells of one row, taken literally: neither markup nor escapes in them are obeyed."""
    return [value if isinstance(value, Text) else Text(printable(str(value))) for value in values]
