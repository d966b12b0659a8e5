"""Writes that survive a power cut, and renames that never replace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk. Raises FileExistsError if it exists."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_synced(path: Path, data: bytes) -> None:
    """Write a file, or another in its place, so that whoever reads it finds the old one or the new one whole.

    One writer at a time: what is being written lies beside it.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)  # left by one that was killed
    write_synced(new, data)
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's entries are on the disk: a rename alone is not durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_unless_there(built: Path, place: Path) -> None:
    """Rename a folder, but let one that appeared meanwhile stand: rename(2) refuses if it has files."""
    try:
        built.rename(place)
    except OSError:
        if not place.exists():
            raise
