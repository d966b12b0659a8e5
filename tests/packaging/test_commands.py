"""The two commands of a newcomer, and what they install with."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from system_programs import PACKAGES, program

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CLIENT = tomllib.loads((ROOT / "planners" / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.process

PREREQUISITES = ("pyproject.toml", "planners/pyproject.toml", "constraints/cpu.txt")
PARALLEL = "-n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder"


@pytest.fixture
def make() -> str:
    """The program."""
    return program("make")


# The tests themselves may run under make, whose options and variables must not reach the one that is tested.
OURS = ("MAKE", "MFLAGS", "ARGS", "CONFIG", "PYTHON", "VENV", "TORCH_INDEX")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
ENVIRONMENT |= {"LC_ALL": "C"}


def dry_run(target: str, folder: Path, *options: str) -> str:
    """What make would do for ``target`` in a fresh tree with the Makefile in it."""
    for name in ("Makefile", *PREREQUISITES):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    command = ["make", "--dry-run", *options, target]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.usefixtures("make")
@pytest.mark.parametrize(
    ("target", "last"),
    [
        ("serve", ".venv/bin/s3lora-serve --config configs/planners.yaml"),
        ("check", ".venv/bin/mypy"),
        (
            "test",
            ".venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder",
        ),
    ],
)
def test_a_command_installs_from_the_pins_and_then_runs(tmp_path, target, last):
    """Both commands need nothing but Python and make: they make the environment first.

    Client and server are installed in one call: pip then asks no index for the name of either.
    """
    steps = dry_run(target, tmp_path)
    assert 'sh constraints/install.sh .venv/bin/python -e ./planners -e ".[cpu,dev]"' in steps
    assert steps.strip().splitlines()[-1].strip() == last


@pytest.mark.usefixtures("make")
def test_the_second_run_installs_nothing(tmp_path):
    """The stamp is newer than what it depends on, so only the command itself is left."""
    dry_run("serve", tmp_path)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".installed").touch()
    old = [f"--old-file={name}" for name in PREREQUISITES]
    assert dry_run("serve", tmp_path, *old).split() == [
        ".venv/bin/s3lora-serve",
        "--config",
        "configs/planners.yaml",
    ]


@pytest.mark.usefixtures("make")
def test_an_old_python_is_refused_with_what_to_do(tmp_path):
    """The message names the version found, the one needed, and how to choose another."""
    old = tmp_path / "python-old"
    # Answers the Makefile's check as Python 3.9 would.
    old.write_text(
        "#!/bin/sh\nexec python3 -c 'import sys; sys.version_info = (3, 9, 1); exec(sys.argv[1])' \"$2\"\n"
    )
    old.chmod(0o755)
    dry_run("test", tmp_path)
    done = subprocess.run(
        ["make", "test", f"PYTHON={old}"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "is Python 3.9, but 3.11 or newer is needed; name one: make PYTHON=" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_continuous_integration_runs_make_test():
    """What a newcomer runs and what decides about a change are one command."""
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[-1] == "make test"
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_it_installs_the_packages_that_tests_use():
    """Each line of .ci/packages is one name of a Debian package, and .ci/run reads that file."""
    lines = [line for line in PACKAGES.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", line)] == []
    assert lines == sorted(lines)
    assert ".ci/packages" in (ROOT / ".ci" / "run").read_text()


def test_a_missing_program_skips_here_and_fails_in_continuous_integration(monkeypatch):
    """A skip would go unnoticed there; a program that .ci/packages does not list is an error everywhere."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make is not installed"):
        program("make")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make is not installed"):
        program("make")
    with pytest.raises(AssertionError, match=r"the package no-such, which \.ci/packages does not list"):
        program("no-such")


def test_every_dependency_has_a_lower_bound():
    """A bound says which release was looked at; without one, pip may choose any. The client is exact."""
    requirements = [
        requirement
        for project in (PROJECT, CLIENT)
        for requirement in chain(project["dependencies"], *project["optional-dependencies"].values())
    ]
    unbound = {r for r in requirements if ">=" not in r}
    assert {re.sub(r"\[\w+\]", "", r) for r in unbound} == {f"s3lora-planners=={PROJECT['version']}"}


def test_every_dependency_is_pinned_for_the_commands():
    """constraints/cpu.txt has an exact version of all that the extras cpu and dev name."""
    pins = [
        line
        for line in (ROOT / "constraints" / "cpu.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*", pin)] == []
    extras = PROJECT["optional-dependencies"]
    wanted = {
        re.split(r"[\[<>=!~ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")
        for requirement in [*PROJECT["dependencies"], *extras["cpu"], *extras["dev"], *extras["train"]]
    } - {"s3lora-planners"}
    assert wanted - {pin.split("==")[0] for pin in pins} == set()


def test_the_promised_extras_exist():
    """The install lines of README.md and docs/ name these."""
    assert {"cpu", "gpu", "langchain", "mcp", "evaluate", "dev"} <= set(PROJECT["optional-dependencies"])
    assert set(CLIENT["optional-dependencies"]) == {"langchain", "mcp"}


def test_test_files_have_names_of_their_own():
    """pytest imports tests by their bare names: two files of one name would be taken for each other."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))


def test_no_test_imports_a_conftest():
    """There are several, and which one a bare import gets depends on the order of collection."""
    files = [
        path
        for path in (ROOT / "tests").rglob("*.py")
        if re.search(r"(?m)^ *(from|import) conftest", path.read_text())
    ]
    assert files == []
