"""The two files of an adapter, as a folder and as an archive."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = ["adapter_config.json", "adapter_model.safetensors"]


def contents(folder: Path) -> dict[str, bytes]:
    """File name → bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def archive(adapter: Path, target: Path, inside: str = "") -> Path:
    """The adapter as a zip file."""
    with zipfile.ZipFile(target, "w") as file:
        for path in adapter.iterdir():
            file.write(path, inside + path.name)
    return target
