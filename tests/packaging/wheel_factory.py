"""Empty wheels, and folders that serve them as a package index does."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from pathlib import Path

TAG = "py3-none-any"


def write_wheel(
    folder: Path, name: str, version: str, requires: tuple[str, ...] = (), code: str = ""
) -> Path:
    """A wheel of one module with ``code``; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    path = folder / f"{module}-{version}-{TAG}.whl"
    info = f"{module}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{module}.py", code)
        archive.writestr(f"{info}/METADATA", "\n".join([*metadata, ""]))
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {TAG}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def write_index(folder: Path) -> str:
    """Make the wheels that lie in ``folder`` an index, a page for each package; returns its address."""
    pages: dict[str, list[str]] = {}
    for wheel in sorted(folder.glob("*.whl")):
        package = re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
        pages.setdefault(package, []).append(f'<a href="../{quote(wheel.name)}">{wheel.name}</a><br>')
    for package, links in pages.items():
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "index.html").write_text("\n".join(["<!DOCTYPE html>", *links]))
    return folder.as_uri()
