"""The table of docs/compatibility.md: what outside clients were found to do."""

from __future__ import annotations

import sys
from pathlib import Path

from markdown_table import table

sys.path.insert(0, str(Path(__file__).parents[1] / "clients"))

from client_list import CLIENTS, USES, Client

_HEAD = ("client", "version", "chat", "streams", "forced tools", "structured output", "Responses", "plans")


def clients() -> str:
    """A row for each client, and below what some need."""
    rows = [(client.name, client.version, *(_cell(client, use) for use in USES)) for client in CLIENTS]
    notes = [f"* {client.name}: {client.note}.\n" for client in CLIENTS if client.note]
    return table(_HEAD, rows) + "\n" + "".join(notes)


def _cell(client: Client, use: str) -> str:
    if use in client.works:
        return "works"
    if use in client.refused:
        return f"refused: {client.refused[use].because}"
    return "–" if use in client.lacks else "not tried"
