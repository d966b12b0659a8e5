"""A pickle read in a process that can do nothing else: bounded in time and memory, no network, no files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from s3lora_serve.adapters.convert import pickle_program
from s3lora_serve.errors import FormatError, SourceError, UnsupportedError
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

SECONDS = 120.0  # it takes three on two cores, nearly all of it to import
_SPARE = 1 << 20
_SAID = 300  # characters of its reason
_OTHERWISE = "save it with safe_serialization=True where its code does no harm"
_KEPT = ("PATH", "LD_LIBRARY_PATH", "LANG", "VIRTUAL_ENV", "SYSTEMROOT")


def convert_pickle(name: str, pickle: FileIO, out: Path, most_bytes: int, seconds: float = SECONDS) -> None:
    """Write the tensors of an open pickle as safetensors to ``out``, a new file.

    The bytes come from a process that has read a stranger's pickle: check them as any stranger's file. Raises
    FormatError for what holds no tensors by name, UnsupportedError where the process cannot be locked,
    SourceError if it is not done in time.
    """
    # Torch stores tensors as they are: what is much larger than its file is no adapter.
    bytes_ = min(most_bytes, os.fstat(pickle.fileno()).st_size + _SPARE)
    with tempfile.TemporaryFile() as told, out.open("xb") as file:
        os.lseek(pickle.fileno(), 0, os.SEEK_SET)
        process = subprocess.Popen(
            [
                sys.executable, "-I", "-c",
                # Descriptor 3, whatever number ours has; then the program by its name.
                f"import os, runpy; os.dup2({file.fileno()}, {pickle_program.OUT});"
                f" runpy.run_module({pickle_program.__name__!r}, run_name='__main__')",
                str(bytes_), str(max(1, int(seconds))),
            ],
            stdin=pickle.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=told,
            pass_fds=(file.fileno(),),
            env={key: os.environ[key] for key in _KEPT if key in os.environ}
            | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise SourceError(
                f"{name} was not read within {seconds:g} s: a pickle of an adapter takes a few",
                hint=_OTHERWISE,
            ) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code == 0:
            return
        told.seek(0)
        said = printable(told.read(8000).decode(errors="replace").strip(), one_line=True)[-_SAID:]
    if code == pickle_program.NOT_LOCKED:
        raise UnsupportedError(f"no pickle is read without a lock, and here {said}", hint=_OTHERWISE)
    died = f"its reader ended with code {code}" if code < 0 or not said else said
    raise FormatError(
        f"{name} was not converted: {died}", hint=f"only tensors by name are read; or {_OTHERWISE}"
    )
