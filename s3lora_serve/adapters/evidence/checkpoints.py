"""Base models as safetensors checkpoints, and the difference of two: what alignment changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from s3lora_serve.adapters.fetch.hub import checkpoint as hub_checkpoint
from s3lora_serve.adapters.fetch.other_formats import is_pickle
from s3lora_serve.errors import ConfigError, SourceError
from s3lora_serve.storage.canonical_json import canonical_digest, excerpt, strict_loads

if TYPE_CHECKING:
    from torch import Tensor

    from s3lora_serve.adapters.base_model import BaseModelSpec

INDEX_NAME, SINGLE_NAME = "model.safetensors.index.json", "model.safetensors"
MAX_INDEX_BYTES = 64 << 20
_DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Checkpoint:
    """A model's weights on disk, by tensor name. Nothing is read of them until asked for."""

    name: str  # as it was asked for
    folder: Path
    uri: str  # resolved: file:// or hf:// with its commit
    files: Mapping[str, Path]  # by tensor name

    @classmethod
    def open(cls, location: str, revision: str | None = None) -> Checkpoint:
        """Find the checkpoint in a folder (what starts with '.', '/' or '~') or on the Hugging Face Hub.

        Raises ConfigError if there is none, or if it is not in safetensors files.
        """
        if location.startswith((".", "/", "~")):
            folder = Path(location).expanduser().resolve()
            if not folder.is_dir():
                raise ConfigError(f"checkpoint {location}: there is no such folder")
            uri = folder.as_uri()
        else:
            try:
                found = hub_checkpoint(location, revision, INDEX_NAME, SINGLE_NAME)
            except (SourceError, ValueError) as error:  # ValueError: no id that the Hub could have
                hint = error.hint if isinstance(error, SourceError) else "start a folder with './' or '/'"
                message = error.message if isinstance(error, SourceError) else str(error).splitlines()[0]
                raise ConfigError(f"checkpoint {location}: {message}", hint=hint) from error
            folder, uri = found.path, found.uri
        return cls(location, folder, uri, _files(location, folder))

    @property
    def digest(self) -> str:
        """sha256 of the sha256s of its weights files. Reads them all, once while they do not change."""
        return canonical_digest(sorted(_sha256(path) for path in set(self.files.values())))

    def shape(self, module: str) -> tuple[int, ...]:
        """Shape of a module's weight as stored. Raises ConfigError if it is absent or quantised."""
        name = self._tensor(module)
        with _opened(self.name, self.files[name]) as file:
            part = file.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise ConfigError(
                    f"checkpoint {self.name}: {name} is {part.get_dtype()}, not one of {', '.join(_DTYPES)}",
                    hint="name the checkpoint that is not quantised",
                )
            return tuple(part.get_shape())

    def weight(self, module: str) -> Tensor:
        """A module's weight as stored, in its dtype. Raises ConfigError if it cannot be read."""
        name = self._tensor(module)
        with _opened(self.name, self.files[name]) as file:
            found: Tensor = file.get_tensor(name)
            return found

    def _tensor(self, module: str) -> str:
        # A checkpoint of the bare model leaves out the name that it has inside the language model.
        for name in (f"{module}.weight", f"{module.partition('.')[2]}.weight"):
            if name in self.files:
                return name
        raise ConfigError(
            f"checkpoint {self.name} has no weight of {module}; it holds {len(self.files)} tensors such as"
            f" {excerpt(min(self.files))}",
            hint="name checkpoints of the model that the adapter is for",
        )


class AlignmentDifference(Mapping[str, "torch.Tensor"]):
    """``V = W_aligned − W_base`` by module, [out, in], float32 or wider; read when asked for, never kept.

    Iterates over the linear layers of the base model that it was opened for.
    """

    def __init__(self, before: Checkpoint, aligned: Checkpoint, spec: BaseModelSpec) -> None:
        self._before, self._aligned, self._spec = before, aligned, spec

    def __getitem__(self, module: str) -> Tensor:
        if module not in self._spec.shapes:
            raise KeyError(module)
        before, aligned = self._before.weight(module), self._aligned.weight(module)
        # bfloat16 would round the difference of two close numbers; float32 holds it exactly or nearly so.
        wide = torch.promote_types(torch.promote_types(before.dtype, aligned.dtype), torch.float32)
        difference = aligned.to(wide) - before.to(wide)
        return difference.mT if module in self._spec.transposed else difference

    def __iter__(self) -> Iterator[str]:
        return iter(self._spec.shapes)

    def __len__(self) -> int:
        return len(self._spec.shapes)

    def check(self, modules: Mapping[str, object]) -> None:
        """Look for these modules in both checkpoints; reads headers only.

        Raises ConfigError for one that is absent, quantised, or of another shape than the base model's.
        """
        for module in modules:
            if module not in self._spec.shapes:
                raise ConfigError(
                    f"{self._spec.name} has no linear layer {module}, which the adapter updates",
                    hint="name checkpoints of the model that the adapter is for",
                )
            out, inputs = self._spec.shapes[module]
            expected = (inputs, out) if module in self._spec.transposed else (out, inputs)
            for checkpoint in (self._before, self._aligned):
                if (found := checkpoint.shape(module)) != expected:
                    raise ConfigError(
                        f"checkpoint {checkpoint.name}: {module} is {_times(found)},"
                        f" but in {self._spec.name} it is {_times(expected)}",
                        hint="both checkpoints must be of the model that the adapter is for",
                    )


@contextmanager
def _opened(checkpoint: str, path: Path) -> Iterator[Any]:
    """A weights file, what the library raises while it reads as one error that names checkpoint and file."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, RuntimeError) as error:
        raise _unreadable(checkpoint, path.name, str(error)) from error


def _files(name: str, folder: Path) -> dict[str, Path]:
    """Tensor name → file."""
    index, single = folder / INDEX_NAME, folder / SINGLE_NAME
    if index.is_file():
        found = _shards(name, index)
    elif single.is_file():
        with _opened(name, single) as file:
            found = dict.fromkeys(file.keys(), single)
    else:
        pickles = sorted(path.name for path in folder.glob("*") if is_pickle(path.name))
        has = f"{pickles[0]}, a pickle" if pickles else "neither"
        raise ConfigError(
            f"checkpoint {name} has no {SINGLE_NAME} and no {INDEX_NAME}: it has {has}",
            hint="save the model with safe_serialization=True",
        )
    if not found:
        raise ConfigError(f"checkpoint {name} holds no tensors", hint="download the checkpoint again")
    return found


def _shards(name: str, index: Path) -> dict[str, Path]:
    if index.stat().st_size > MAX_INDEX_BYTES:
        raise _unreadable(name, index.name, f"over {MAX_INDEX_BYTES} bytes")
    try:
        table = strict_loads(index.read_bytes())["weight_map"]
        found = {str(tensor): index.parent / file for tensor, file in table.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(name, index.name, f"{type(error).__name__}: {error}") from error
    for path in set(found.values()):
        if path.parent != index.parent or ".." in path.parts:
            raise _unreadable(name, index.name, f"{excerpt(str(path))} lies in another folder")
        if not path.is_file():
            raise ConfigError(
                f"checkpoint {name}: {path.name} is missing, which {index.name} names",
                hint="download the checkpoint again",
            )
    return found


def _sha256(path: Path) -> str:
    status = path.stat()
    return _hashed(path, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=1024)
def _hashed(path: Path, _state: tuple[int, ...]) -> str:
    # Tens of gigabytes for a large model: a server that admits many adapters reads them once.
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unreadable(name: str, file: str, reason: str) -> ConfigError:
    return ConfigError(
        f"checkpoint {name}: {file} cannot be read: {reason:.300}", hint="download the checkpoint again"
    )


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)
