"""What `pip install` of the built package brings."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from s3lora_serve import __version__
from s3lora_serve.demo import ADAPTERS

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> set[str]:
    """The files inside the wheel that this tree builds."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        ROOT,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    assert wheel.name == f"s3lora_serve-{__version__}-py3-none-any.whl"
    return set(zipfile.ZipFile(wheel).namelist())


def test_both_packages_are_whole(names):
    """Every source file of the tree is in the wheel, with the marker that makes its types count."""
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in ("planners", "s3lora_serve")
        for path in (ROOT / package).rglob("*.py")
    }
    assert tree - names == set()
    assert {"planners/py.typed", "s3lora_serve/py.typed"} <= names


def test_the_demo_adapters_are_inside(names):
    """demo:// sources work from a plain install: weights, configuration and model card of each."""
    files = ("adapter_config.json", "adapter_model.safetensors", "README.md")
    expected = {f"s3lora_serve/demo/adapters/{adapter}/{file}" for adapter in ADAPTERS for file in files}
    assert expected - names == set()


def test_the_questions_of_evaluations_are_inside(names):
    """`s3lora evaluate` can be tried from a plain install, and its page has its template and style."""
    files = {f"s3lora_serve/judging/sets/{file}" for file in ("attack.txt", "harmless.txt", "plans.jsonl")}
    families = ("attacks", "harmless", "tasks")
    files |= {f"s3lora_serve/judging/sets/families/{name}.jsonl" for name in families}
    files |= {f"s3lora_serve/evaluation/report/{file}" for file in ("page.html.jinja", "page.css")}
    assert files - names == set()


def test_prompts_are_inside(names):
    """The planner contract's texts travel with its code."""
    data = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "planners" / "prompts").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert data - names == set()


def test_nothing_else_is_inside(names):
    """No tests, caches or drafts: only the two packages, the licence and the metadata."""
    tops = {name.split("/")[0] for name in names}
    assert tops == {"planners", "s3lora_serve", f"s3lora_serve-{__version__}.dist-info"}
    assert [name for name in names if "__pycache__" in name] == []
    assert f"s3lora_serve-{__version__}.dist-info/licenses/LICENSE" in names


def test_the_commands_and_the_plugins_can_be_found():
    """pip makes `s3lora` and `s3lora-serve`, and vLLM finds each plugin in every process that it starts."""
    scripts = {
        e.name: e for e in entry_points(group="console_scripts") if e.value.startswith("s3lora_serve.")
    }
    assert sorted(scripts) == ["s3lora", "s3lora-serve"]
    assert all(callable(entry.load()) for entry in scripts.values())
    found = [e for e in entry_points(group="vllm.general_plugins") if e.value.startswith("s3lora_serve.")]
    plugins = {e.name: callable(e.load()) for e in found}
    assert plugins == {"s3lora_cpu_lora_fix": True, "s3lora_gpu_lora": True, "s3lora_process_group": True}


def test_one_version():
    """pyproject.toml and the package say the same."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
