"""The program that reads a pickle: started by ``locked_process``, it locks itself before it looks at a byte.

Standard input is the pickle, descriptor 3 takes safetensors, standard error the reason if it fails. It
imports nothing of this package but the lock, and is given nothing of the environment that is secret.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import torch
from safetensors.torch import save

from s3lora_serve.adapters.convert.system_lock import NoLock, lock

OUT = 3
FAILED, NOT_LOCKED = 3, 4  # exit codes
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_ROOM = 512 << 20  # beside the tensors: for the reader


def main(most_bytes: int, cpu_seconds: int) -> int:
    """Convert; the exit code."""
    torch.set_num_threads(1)
    _warm_up()
    try:
        lock(4 * most_bytes + _ROOM, most_bytes + (16 << 20), cpu_seconds)
    except (NoLock, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return NOT_LOCKED
    try:
        with os.fdopen(0, "rb") as file:
            written = save(tensors_of(torch.load(file, map_location="cpu", weights_only=True), most_bytes))
        with os.fdopen(OUT, "wb") as out:
            out.write(written)
    except MemoryError:
        print("it takes more memory than its size allows", file=sys.stderr)
        return FAILED
    except Exception as error:  # whatever a crafted file makes of the reader
        print(f"{type(error).__name__}: {error}"[:2000], file=sys.stderr)
        return FAILED
    return 0


def tensors_of(found: Any, most_bytes: int) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, each with its own memory. Raises ValueError for anything else."""
    if not isinstance(found, dict):
        raise ValueError(f"it holds {type(found).__name__}, not tensors by name")
    left = most_bytes
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{str(name)[:80]!r} is {type(tensor).__name__}, not a tensor by name")
        if tensor.dtype not in _FLOATS or tensor.layout is not torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"{name[:80]!r} is no dense tensor of floating-point numbers: {tensor.dtype}")
        left -= tensor.numel() * tensor.element_size()
        if left < 0:
            raise ValueError(f"its tensors have more than {most_bytes} bytes")
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()
    }


def _warm_up() -> None:
    """Import all that reading and writing import when they are first called: later no file can be opened."""
    buffer = io.BytesIO()
    for form in (True, False):
        buffer.seek(0)
        tensors = {"a": torch.zeros(2, 2, dtype=torch.bfloat16)}
        torch.save(tensors, buffer, _use_new_zipfile_serialization=form)
        buffer.seek(0)
        save(tensors_of(torch.load(buffer, map_location="cpu", weights_only=True), 1 << 20))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
