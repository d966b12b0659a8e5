"""Tables of docs/evidence.md between marks that name them, made anew from results."""

from __future__ import annotations

import re
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "evidence.md"


def rewritten(page: str, kind: str, tables: object) -> str:
    """The page with every block between marks of this kind made anew: each names a method of ``tables``."""
    block = re.compile(rf"(<!-- {kind}: ([a-z-]+) -->\n).*?(<!-- /{kind} -->)", re.S)
    return block.sub(lambda m: m[1] + getattr(tables, m[2].replace("-", "_"))() + m[3], page)


def write_or_check(kind: str, tables: object) -> None:
    """Write the page; with ``--check`` exit 1 if it has other tables."""
    page = PAGE.read_text(encoding="utf-8")
    now = rewritten(page, kind, tables)
    if "--check" in sys.argv:
        sys.exit(now != page)
    PAGE.write_text(now, encoding="utf-8")
