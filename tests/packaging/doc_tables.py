"""The generated tables of the pages in docs/ (`make tables`): settings, commands, routes, the exam's power.

A table stands between ``<!-- generated: NAME -->`` and ``<!-- /generated -->``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import adapter_table
import client_tables
import command_tables
import http_tables
import setting_tables

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam.exam_power import power_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n)(?P<text>.*?)(?P<end><!-- /generated -->)", re.DOTALL
)
TABLES: Mapping[str, Callable[[], str]] = {
    "settings": setting_tables.settings,
    "commands": command_tables.commands,
    "options": command_tables.options,
    "exit-codes": command_tables.exit_codes,
    "routes": http_tables.routes,
    "errors": http_tables.errors,
    "adapters": adapter_table.adapters,
    "clients": client_tables.clients,
    "exam-power": lambda: power_table(ExamConfig()),
}


def written() -> dict[str, list[str]]:
    """What stands in the pages now: the text of each block, by its name."""
    found: dict[str, list[str]] = {}
    for page in pages():
        for block in BLOCK.finditer(page.read_text()):
            found.setdefault(block["name"], []).append(block["text"])
    return found


def pages() -> list[Path]:
    """The pages that may have a block."""
    return sorted(DOCS.glob("*.md"))


def write() -> None:
    """Put the current tables into the pages."""
    for page in pages():
        before = page.read_text()
        after = BLOCK.sub(lambda block: block["begin"] + TABLES[block["name"]]() + block["end"], before)
        if after != before:
            page.write_text(after)


if __name__ == "__main__":
    write()
