"""Which kind of engine a store is used with: what a fake one used never serves, and the reverse."""

from __future__ import annotations

import fcntl
from typing import TYPE_CHECKING

from s3lora_serve.errors import StoreError
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from pathlib import Path

MARK = "engine"
UNMARKED = "vllm"  # stores had no mark while there was only this


def claim(root: Path, engine: str, begun: Path) -> None:
    """Mark a store that is new, one without the folder ``begun``, as used with this kind of engine.

    Safe to call from several processes: the first one decides. Raises StoreError if it is used with another
    kind, OSError if it cannot be written.
    """
    if not begun.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        _write_unless_there(root / MARK, f"{engine}\n")
    try:
        used_with = (root / MARK).read_text("utf-8", errors="replace").strip()
    except FileNotFoundError:
        used_with = UNMARKED
    if used_with != engine:
        raise StoreError(
            f"store {root} was used with engine {excerpt(used_with)}, and this server has engine {engine}",
            hint="set store.path to another folder, or start the server with the engine that used it",
        )


def _write_unless_there(path: Path, text: str) -> None:
    """Write a whole file, or leave the one that is there."""
    with (path.parent / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the store is new: nothing is staged in it
        if not path.exists():
            built = path.with_name(f".{path.name}")
            built.write_text(text)
            built.replace(path)
