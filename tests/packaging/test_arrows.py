"""Dependencies point one way, between parts and between files, and what a client installs stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from typing import TYPE_CHECKING

import pytest
from source_tree import ROOT, SOURCES, module_of

if TYPE_CHECKING:
    from pathlib import Path

# Each part may import these others, besides errors. From what stands on nothing to what stands on all.
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "planners": set(),
    "config": {"planners"},
    "storage": set(),
    "spectral": set(),
    "terminal": {"storage", "spectral"},
    "adapters": {"storage", "spectral", "config"},
    "demo": set(),
    "engine": {"config"},
    "judging": {"storage", "planners"},
    "safety.guard": {"storage", "engine", "judging", "config", "planners"},
    "safety.exam": {"storage", "spectral", "engine", "judging", "config"},
    "fleet": {"storage", "spectral", "adapters", "engine", "planners"},
    "evaluation": {"storage", "spectral", "adapters", "engine", "judging", "terminal"},
    "serving": {"adapters", "engine", "safety.guard", "safety.exam", "fleet", "config", "planners"},
    "control": {"storage", "spectral", "adapters", "engine", "safety.exam", "fleet", "config"},
    "service": {
        "adapters",
        "engine",
        "safety.guard",
        "safety.exam",
        "fleet",
        "serving",
        "control",
        "config",
        "planners",
    },
    "server": {
        "storage",
        "spectral",
        "adapters",
        "engine",
        "safety.guard",
        "fleet",
        "serving",
        "control",
        "service",
        "config",
        "planners",
    },
    "launch": {
        "storage",
        "spectral",
        "adapters",
        "engine",
        "judging",
        "safety.guard",
        "safety.exam",
        "fleet",
        "serving",
        "control",
        "service",
        "server",
        "terminal",
        "demo",
        "config",
        "planners",
    },
    "cli": {
        "storage",
        "spectral",
        "adapters",
        "engine",
        "judging",
        "safety.guard",
        "safety.exam",
        "evaluation",
        "control",
        "launch",
        "terminal",
        "config",
        "planners",
    },
    "__main__": {"launch"},
}


def part(module: str) -> str:
    """The part of the tree that a module belongs to: ``planners``, or the name under ``s3lora_serve``.

    Under ``safety`` it is the name below that: guard and exam do not know each other.
    """
    names = module.split(".")
    if names[0] != "s3lora_serve":
        return names[0]
    depth = 3 if names[1:2] == ["safety"] else 2
    return ".".join(names[1:depth]) or "s3lora_serve"


@cache
def statements(path: Path) -> tuple[tuple[str, str], ...]:
    """(module, name or "") of each import in a file, also inside functions and under TYPE_CHECKING."""
    found: list[tuple[str, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            assert node.module is not None
            found += [(node.module, alias.name) for alias in node.names]
    return tuple(found)


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere."""
    return {module for module, _ in statements(path)}


@cache
def graph() -> dict[str, set[str]]:
    """Each of our modules, and those of ours that it imports anywhere."""
    modules = {module_of(path): path for path in SOURCES}
    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        targets = {f"{m}.{n}" if f"{m}.{n}" in modules else m for m, n in statements(path)}
        edges[module] = (targets & modules.keys()) - {module}
    return edges


def test_imports_between_parts_follow_the_arrows():
    """A part imports only the parts below it (docs/architecture.md)."""
    wrong = [
        f"{importing} imports {imported}: {part(importing)} may not know {part(imported)}"
        for importing, targets in graph().items()
        for imported in sorted(targets)
        if part(imported) not in {part(importing), "errors", "s3lora_serve"} | ARROWS[part(importing)]
    ]
    assert wrong == []


def test_no_file_imports_itself_through_others():
    """No circle anywhere, also not inside a part, nor through a lazy import or one for types alone."""
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as circle:
        pytest.fail("imports itself: " + " <- ".join(circle.args[1]))


def test_folders_of_a_part_import_one_way():
    """Nor does a folder inside a part, as a whole: what is below can be read without what is above."""

    def folder(module: str) -> str:
        """The folder below the part, or nothing for a file directly in the part."""
        names = module.split(".")
        depth = 2 if names[0] == "planners" else 2 + len(part(module).split("."))
        return ".".join(names[:depth]) if len(names) > depth else ""

    edges: dict[str, set[str]] = {}
    for importing, targets in graph().items():
        edges.setdefault(folder(importing), set()).update(folder(imported) for imported in targets)
    edges = {one: targets - {one, ""} for one, targets in edges.items() if one}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as circle:
        pytest.fail("imports itself: " + " <- ".join(circle.args[1]))


def test_fetching_knows_only_the_two_files():
    """A source is fetched without knowing what its weights are checked for, or where they are published."""
    known = {"s3lora_serve.adapters.fetch", "s3lora_serve.adapters.peft"}
    found = {
        imported
        for importing, targets in graph().items()
        if importing.startswith("s3lora_serve.adapters.fetch")
        for imported in targets
        if part(imported) == "adapters" and imported.rpartition(".")[0] not in known
    }
    assert found == set()


def test_the_arrows_themselves_have_no_circle():
    """The table above is an order of parts."""
    TopologicalSorter(ARROWS).prepare()


def test_every_arrow_is_used():
    """An arrow that nothing needs any more is taken out."""
    used = {(part(a), part(b)) for a, targets in graph().items() for b in targets}
    assert {(a, b) for a, targets in ARROWS.items() for b in targets} - used == set()


def test_every_part_has_its_arrows():
    """A new folder must be given its place here and in docs/architecture.md."""
    docstrings = {"s3lora_serve", "safety"}  # a package that holds parts, and nothing of its own
    assert {part(module_of(path)) for path in SOURCES} - docstrings == set(ARROWS)


@pytest.mark.parametrize("vendor", ["vllm", "gguf", "transformers", "huggingface_hub", "prometheus_client"])
def test_a_vendor_is_imported_in_one_place(vendor):
    """What another project may change is met in one part of the tree only."""
    places = {
        part(module_of(path))
        for path in SOURCES
        if any(name.split(".")[0] == vendor for name in imports(path))
    }
    assert len(places) <= 1


def test_only_its_own_folder_imports_vllm():
    """vLLM is behind the port: engine/vllm/, with the plugin that mends its CPU kernels."""
    files = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if any(name.split(".")[0] == "vllm" for name in imports(path))
    }
    assert files
    assert [file for file in files if not file.startswith("s3lora_serve/engine/vllm/")] == []


def test_spectral_knows_no_files_and_no_clock():
    """The spectral core is a pure function of tensors."""
    effects = {"pathlib", "os", "io", "time", "datetime", "logging", "tempfile", "shutil", "subprocess"}
    found = {
        (path.name, name)
        for path in SOURCES
        if part(module_of(path)) == "spectral"
        for name in imports(path)
        if name.split(".")[0] in effects
    }
    assert found == set()


@pytest.mark.process
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("planners", {"torch", "vllm", "transformers", "s3lora_serve"}),
        ("s3lora_serve.config", {"torch", "vllm", "transformers"}),
        ("s3lora_serve.errors", {"torch", "vllm", "transformers", "pydantic"}),
        ("s3lora_serve.cli.main", {"torch", "vllm", "transformers", "matplotlib", "pydantic"}),
        ("s3lora_serve.launch.serve", {"torch", "vllm", "transformers", "matplotlib"}),
    ],
)
def test_importing_stays_light(module, absent):
    """A fresh interpreter that imports the module has not loaded the heavy ones."""
    code = f"import sys, {module}; print(*sorted({absent!r} & {{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_every_dependency_is_declared():
    """What the packages import is in pyproject.toml, so that a plain pip install works."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [
        *project["dependencies"],
        *(r for e in ("cpu", "evaluate", "train", "langchain", "mcp") for r in extras[e]),
    ]
    names = {re.split(r"[\[<>=!~ ]", r, maxsplit=1)[0].lower().replace("_", "-") for r in declared}
    # Versions of these are chosen by transformers, pydantic, langchain-openai and torch's CUDA builds.
    names |= {"tokenizers", "pydantic-core", "openai", "triton"}
    distributions = packages_distributions()
    used = {name.split(".")[0] for path in SOURCES for name in imports(path)}
    third_party = used - set(sys.stdlib_module_names) - {"planners", "s3lora_serve", "vllm"}
    undeclared = {
        name
        for name in third_party
        if not {d.lower().replace("_", "-") for d in distributions.get(name, [name])} & names
    }
    assert undeclared == set()
