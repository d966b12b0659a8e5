"""What this experiment measured, in one small file: verdicts and figures, no answers."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

EXAMINED = Path(__file__).parent / "2026-11-30" / "examined.json.xz"


def pack(out: Path, path: Path) -> None:
    """Write what ``run`` left in ``out`` to one xz file."""
    found = [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted((out / "examined").glob("*.json"))
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lzma.compress(json.dumps(found, separators=(",", ":")).encode(), preset=9))


def load(path: Path = EXAMINED) -> list[dict[str, Any]]:
    """What ``pack`` wrote: adapters and bases, in the order of their names."""
    found: list[dict[str, Any]] = json.loads(lzma.decompress(path.read_bytes()))
    return found
