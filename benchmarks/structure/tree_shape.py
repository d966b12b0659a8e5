"""How the product's tree is built: files, lines, the largest folder, file and import circle."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from passes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = (ROOT / "s3lora_serve", ROOT / "planners")


def tree() -> dict[str, int]:
    """Files, lines, the largest folder (entries), file (lines) and circle (files) of the product."""
    files = [path for package in PACKAGES for path in package.rglob("*.py")]
    lines = {path: len(path.read_text().splitlines()) for path in files}
    folders = {path.parent for path in files}
    return {
        "files": len(files),
        "lines": sum(lines.values()),
        "largest folder": max(map(_entries, folders)),
        "largest file": max(lines.values()),
        "largest circle": max(map(len, circles(imports(files))), default=0),
    }


def _entries(folder: Path) -> int:
    left_out = {"__init__.py", "__main__.py", "py.typed", "__pycache__"}
    there = (path for path in folder.iterdir() if path.name not in left_out)
    # A folder that another commit left holds compiled files alone, and is none of this one.
    return sum(path.is_file() or any(map(_kept, path.rglob("*"))) for path in there)


def _kept(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts


def imports(files: list[Path]) -> dict[str, set[str]]:
    """The product's modules, and those of them that each imports anywhere."""
    modules = {_module(path): path for path in files}
    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = (f"{node.module}.{alias.name}" for alias in node.names)
                found |= {name if name in modules else node.module for name in inner}
        edges[module] = (found & modules.keys()) - {module}
    return edges


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def circles(edges: dict[str, set[str]]) -> list[set[str]]:
    """The sets of two or more modules of which each leads to all others."""
    reach = {module: _reached(edges, module) for module in edges}
    found = {frozenset(m for m in reach[a] if a in reach[m]) for a in edges if a in reach[a]}
    return [set(circle) for circle in found if len(circle) > 1]


def _reached(edges: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    rest = [*edges[start]]
    while rest:
        if (module := rest.pop()) not in seen:
            seen.add(module)
            rest += edges[module]
    return seen
