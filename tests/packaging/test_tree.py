"""A stranger finds a thing by its name: small folders and files, and each name once."""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import TYPE_CHECKING

import source_tree
from source_tree import ROOT, SOURCES, module_of

if TYPE_CHECKING:
    from pathlib import Path

MOST_ENTRIES = 18
MOST_LINES = 350
BESIDE_THE_PRODUCT = ("tests", "benchmarks", "training", "docs")  # held to MOST_LINES too
UNCOUNTED = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
# A client's error has the name of the server's that it stands for.
MIRRORED = {"s3lora_serve.errors", "planners.client.errors"}


def entries(folder: Path) -> list[str]:
    """What a listing of the folder shows, without what every folder has or Python leaves there."""
    return [
        entry.name
        for entry in folder.iterdir()
        if entry.name not in UNCOUNTED
        and (entry.is_file() or any(p.is_file() and "__pycache__" not in p.parts for p in entry.rglob("*")))
    ]


def test_no_folder_is_a_corridor():
    """At most eighteen files and folders in each folder of the product."""
    sizes = {path.parent: len(entries(path.parent)) for path in SOURCES if path.name == "__init__.py"}
    assert {str(folder): size for folder, size in sizes.items() if size > MOST_ENTRIES} == {}


def test_no_file_is_a_scroll():
    """At most 350 lines in each Python file: of the product, tests, benchmarks, training and examples."""
    others = [path for folder in BESIDE_THE_PRODUCT for path in (ROOT / folder).rglob("*.py")]
    sizes = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in (*SOURCES, *others)}
    assert {folder.parts[0] for folder in sizes} == {"planners", "s3lora_serve", *BESIDE_THE_PRODUCT}
    assert {str(path): size for path, size in sizes.items() if size > MOST_LINES} == {}


def test_every_folder_says_what_is_in_it():
    """The first line of its ``__init__.py`` stands in docs/architecture.md."""
    inits = [path for path in SOURCES if path.name == "__init__.py"]
    assert {path.parent for path in SOURCES} == {path.parent for path in inits}
    assert [module_of(path) for path in inits if not source_tree.purpose(path)] == []


def test_a_file_name_stands_once():
    """Two files of one name are told apart by neither a tab nor a traceback."""
    places = defaultdict(set)
    for path in SOURCES:
        if path.name not in UNCOUNTED and module_of(path) not in MIRRORED:
            places[path.name].add(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_a_class_name_stands_once():
    """One word, one thing."""
    places = defaultdict(set)
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].add(module_of(path))
    assert {name: found for name, found in places.items() if len(found) > 1 and found != MIRRORED} == {}


def test_the_data_path_names_files_that_exist():
    """Each file that docs/architecture.md lists by name is there."""
    assert [file for file in source_tree.DATA_PATH if not (ROOT / file).is_file()] == []
