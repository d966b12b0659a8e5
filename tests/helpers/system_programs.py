"""Programs of the system that tests use: skipped without, and in continuous integration a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / ".ci" / "packages"


def program(name: str, package: str | None = None) -> str:
    """Where the program is. Skips the test without it; fails where CI=true, and if CI would not install it.

    ``package`` is the Debian package that has it, by default of the same name.
    """
    package = package or name
    lines = PACKAGES.read_text().splitlines()
    assert package in lines, f"{name} comes from the package {package}, which .ci/packages does not list"
    if path := shutil.which(name):
        return path
    why = f"{name} is not installed (Debian package {package})"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{why}; .ci/run installs it")
    pytest.skip(why)
