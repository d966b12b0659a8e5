"""`s3lora-serve` with the fake engine, run from a nursery: to its end, or until it is told to stop."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_model import write_adapter, write_base

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nursery import Child, Nursery

ROOT = Path(__file__).parents[3]
FAKE = ("--engine", "fake")

_numbers = itertools.count()


def write_fleet(folder: Path, text: str, *adapters: str) -> Path:
    """A configuration, the base model that it names, and adapters, each with other weights."""
    write_base(folder / "base")
    for seed, name in enumerate(adapters, start=1):
        write_adapter(folder / name, seed=seed)
    (folder / "planners.yaml").write_text(text)
    return folder


def s3lora(folder: Path, *arguments: str, engine: tuple[str, ...] = FAKE) -> subprocess.CompletedProcess[str]:
    """Run the operators' command as another process does, on a fleet with the fake engine.

    Without ``engine`` on one that was started without that option, with the fake engine in vLLM's place.
    """
    program = "from s3lora_serve.cli.main import main; main()"
    env = {name: value for name, value in os.environ.items() if not name.startswith("S3LORA_")}
    return subprocess.run(
        [sys.executable, "-c", program, *arguments, "--config", str(folder / "planners.yaml"), *engine],
        env={**env, "COLUMNS": "200", "NO_COLOR": "1"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def begin(nursery: Nursery, folder: Path, *options: str, **env: str) -> Child:
    """Start the command."""
    said = folder / f"said-{next(_numbers)}"
    return nursery.start("fake_server:main", said, "--config", str(folder / "planners.yaml"), *options, **env)


def run(nursery: Nursery, folder: Path, *options: str, **env: str) -> Child:
    """Run the command to its end."""
    child = begin(nursery, folder, *options, **env)
    child.wait()
    return child


class Running:
    """A server that listens."""

    def __init__(self, child: Child, folder: Path) -> None:
        self.child, self.folder = child, folder
        self.lines = child.out.splitlines()  # what it printed until it listened
        self.url = re.search(r"Listening on (\S+)", child.out)[1]

    @property
    def access(self) -> dict[str, str]:
        """What it wrote for the operators' commands."""
        return json.loads((self.folder / "admin.json").read_text())

    def ask(self, path: str, body: object = None) -> tuple[object, dict[str, str]]:
        """Ask as a client does: the answer and its headers."""
        return _http(self.url + path, body, {})

    def order(self, path: str, body: object = None) -> object:
        """Ask as an operator does."""
        token = {"Authorization": f"Bearer {self.access['token']}"}
        return _http(f"{self.access['url']}/admin/{path}", body, token)[0]

    def done(self, operation: dict[str, object]) -> dict[str, object]:
        """The operation, ended."""
        while not operation["ended"]:
            operation = self.order(f"operations/{operation['id']}?wait=10")
        return operation


@contextmanager
def serving(nursery: Nursery, folder: Path, *options: str, **env: str) -> Iterator[Running]:
    """A server that listens; killed at the end, if it has not ended by then."""
    child = begin(nursery, folder, *options, **env)
    try:
        child.until(lambda: "are taken at " in child.out or child.ended())
        assert child.code is None, child.err
        yield Running(child, folder)
    finally:
        child.kill()


def _http(url: str, body: object, headers: dict[str, str]) -> tuple[object, dict[str, str]]:
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(asked, timeout=180) as answer:
        return json.load(answer), {name.lower(): value for name, value in answer.headers.items()}
