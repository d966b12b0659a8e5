"""Dependencies point one way, and what a client installs stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for package in ("planners", "s3lora_serve") for path in (ROOT / package).rglob("*.py"))

# Each part may import these others, besides errors. cli is the top: it alone puts everything together.
ARROWS = {
    "planners": set(),
    "errors": set(),
    "config": set(),
    "metrics": set(),
    "spectral": set(),
    "adapters": {"spectral"},
    "engine": set(),
    "demo": set(),
    "evaluation": {"spectral", "adapters", "engine", "planners"},
    "runtime": {"spectral", "adapters", "engine", "planners", "metrics"},
    "server": {"spectral", "adapters", "engine", "runtime", "planners", "metrics", "config"},
    "__main__": {"cli"},
    "cli": {
        "spectral",
        "adapters",
        "engine",
        "evaluation",
        "runtime",
        "server",
        "metrics",
        "config",
        "demo",
        "planners",
    },
}


def part(module: str) -> str:
    """The part of the tree that a module belongs to: ``planners``, or the name under ``s3lora_serve``."""
    names = module.split(".")
    return names[0] if names[0] != "s3lora_serve" else (names[1] if len(names) > 1 else "s3lora_serve")


def imports(path: Path) -> set[str]:
    """Every module that a file imports anywhere, also inside functions and under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            assert node.module is not None
            found.add(node.module)
            if node.module == "s3lora_serve":
                found |= {f"s3lora_serve.{alias.name}" for alias in node.names}
    return found


def module_of(path: Path) -> str:
    """The dotted module of a source file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=module_of)
def test_imports_follow_the_arrows(path):
    """A part imports only the parts below it (docs/architecture.md)."""
    here = part(module_of(path))
    if here == "s3lora_serve":
        return  # the package's own __init__ has the version and nothing else
    ours = {part(name) for name in imports(path) if name.split(".")[0] in ("planners", "s3lora_serve")}
    assert sorted((ours & ARROWS.keys()) - ARROWS[here] - {here, "errors"}) == []


def test_every_part_has_its_arrows():
    """A new folder must be given its place here and in docs/architecture.md."""
    assert {part(module_of(path)) for path in SOURCES} - {"s3lora_serve"} == set(ARROWS)


@pytest.mark.parametrize("vendor", ["vllm", "gguf", "transformers", "huggingface_hub", "prometheus_client"])
def test_a_vendor_is_imported_in_one_place(vendor):
    """What another project may change is met in one part of the tree only."""
    places = {
        part(module_of(path))
        for path in SOURCES
        if any(name.split(".")[0] == vendor for name in imports(path))
    }
    assert len(places) <= 1


def test_only_engine_files_named_for_it_import_vllm():
    """vLLM is behind the port: engine/vllm*.py and the plugin that mends its CPU kernels."""
    files = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if any(name.split(".")[0] == "vllm" for name in imports(path))
    }
    assert [f for f in files if not re.fullmatch(r"s3lora_serve/engine/(vllm\w*|cpu_lora_fix)\.py", f)] == []


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
        ("s3lora_serve.cli.serve", {"torch", "vllm", "transformers", "matplotlib"}),
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
    # Versions of these are chosen by transformers, pydantic and langchain-openai.
    names |= {"tokenizers", "pydantic-core", "openai"}
    distributions = packages_distributions()
    used = {name.split(".")[0] for path in SOURCES for name in imports(path)}
    third_party = used - set(sys.stdlib_module_names) - {"planners", "s3lora_serve", "vllm"}
    undeclared = {
        name
        for name in third_party
        if not {d.lower().replace("_", "-") for d in distributions.get(name, [name])} & names
    }
    assert undeclared == set()
