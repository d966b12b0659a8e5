"""The kinds of adapters, and what becomes of each: from the tests' own table of kinds."""

from __future__ import annotations

import sys
from pathlib import Path

from markdown_table import table

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from typing import TYPE_CHECKING

from adapter_kinds import KINDS
from folder_kinds import FOLDER_KINDS
from served_bases import RELEASE

if TYPE_CHECKING:
    from adapter_kind import Kind
    from folder_kinds import FolderKind


def adapters() -> str:
    """A row for each kind; tests/adapters (served/test_fit.py and test_folder_kinds.py) hold each verdict."""
    head = ("adapter", "base model's class", f"vLLM {RELEASE}", "vLLM 0.26")
    return table(head, ((k.what, k.architecture, _verdict(k), k.older) for k in (*KINDS, *FOLDER_KINDS)))


def _verdict(kind: Kind | FolderKind) -> str:
    if kind.refused:
        return f"refused: {kind.why}"
    remark = kind.why or ("with a note" if kind.note else "")
    return f"served; {remark}" if remark else "served"
