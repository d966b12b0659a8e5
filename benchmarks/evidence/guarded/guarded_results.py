"""What this experiment measured, in one small file: verdicts and figures, no answers."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "2026-11-30" / "guarded.json.xz"


def pack(out: Path, path: Path) -> None:
    """Write what ``run`` left in ``out`` to one xz file."""
    found = {
        "bases": [_read(file) for file in sorted((out / "judged").glob("*.json"))],
        "adapters": [_read(file) for file in sorted((out / "answered").glob("*.json"))],
        "times": [json.loads(line) for line in (out / "times.jsonl").read_text("utf-8").splitlines()],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lzma.compress(json.dumps(found, separators=(",", ":")).encode(), preset=9))


def load(path: Path = RESULTS) -> dict[str, Any]:
    """What ``pack`` wrote: bases as judges, adapters, and the stages' times."""
    found: dict[str, Any] = json.loads(lzma.decompress(path.read_bytes()))
    return found


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
