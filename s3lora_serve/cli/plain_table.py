"""Tables as the commands print them: no frames, and no text that steers the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from s3lora_serve.cli.console import printable


def plain_table(*columns: str) -> Table:
    """An empty table with these headings."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def cells(*values: object) -> list[Text]:
    """The cells of one row, taken literally: neither markup nor escapes in them are obeyed."""
    return [value if isinstance(value, Text) else Text(printable(str(value))) for value in values]
