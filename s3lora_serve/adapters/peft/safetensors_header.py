"""The header of a safetensors file, read and checked byte by byte before any library maps the file.

A header is attacker-controlled: it says how long it is, which tensors exist and where their bytes lie. The
layout is https://github.com/huggingface/safetensors#format: 8 bytes of little-endian header length, JSON,
then the tensors' bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import FormatError
from s3lora_serve.storage.canonical_json import excerpt, strict_loads

if TYPE_CHECKING:
    from pathlib import Path

MAX_HEADER_BYTES = 16 << 20  # a 70B adapter with 1,120 tensors needs about 0.2 MB
MAX_TENSORS = 1 << 17  # every expert of the largest mixture models has fewer
MAX_DIMENSIONS = 8  # a LoRA factor has two
MAX_SIZE = 1 << 40  # of one dimension, and of any offset: checked before anything is multiplied
ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_WHOLE = "the file is not whole, or not safetensors: fetch it again"
_WRITTEN = "write the file with the safetensors library, as PEFT's save_pretrained does"
_NOT_AN_ADAPTER = "no adapter is like that: is it a whole model, or another kind of file?"
LFS_MAGIC = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header declares it. ``start`` and ``stop`` count bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class SafetensorsHeader:
    """A checked header. ``raw`` is everything before the tensors' bytes, the length included."""

    raw: bytes
    entries: tuple[TensorEntry, ...]  # in file order, without gaps


def read_header(path: Path) -> SafetensorsHeader:
    """Read and check the header; reads nothing of the tensors.

    Raises FormatError for an LFS pointer, a truncated file, a header that is too long, malformed or
    contradicts the file's size, too many tensors, dimensions or elements, overlapping or missing bytes, and
    dtypes other than float64, float32, float16 and bfloat16.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        if prefix == LFS_MAGIC[:8]:
            raise lfs_pointer(path.name)
        if len(prefix) < 8:
            raise FormatError(f"{path.name} is {size} bytes long: too short for safetensors", hint=_WHOLE)
        length = int.from_bytes(prefix, "little")
        if length > size - 8:
            raise FormatError(
                f"{path.name}: its header claims {length} bytes, but only {size - 8} follow",
                hint="the file is truncated or not safetensors",
            )
        if length > MAX_HEADER_BYTES:
            raise FormatError(
                f"{path.name}: its header of {length} bytes is over {MAX_HEADER_BYTES}", hint=_NOT_AN_ADAPTER
            )
        raw = file.read(length)
    if not raw.startswith(b"{"):
        raise FormatError(f"{path.name}: its header does not start with '{{'", hint=_WHOLE)
    try:
        table = strict_loads(raw)
    except ValueError as error:
        raise FormatError(f"{path.name}: its header is not JSON: {error}", hint=_WHOLE) from error
    _check_metadata(path.name, table.pop("__metadata__", {}))
    if len(table) > MAX_TENSORS:
        raise FormatError(f"{path.name} holds {len(table)} tensors > {MAX_TENSORS}", hint=_NOT_AN_ADAPTER)
    entries = sorted(
        (_entry(path.name, name, value) for name, value in table.items()), key=lambda e: (e.start, e.stop)
    )
    _check_coverage(path.name, entries, size - 8 - length)
    return SafetensorsHeader(prefix + raw, tuple(entries))


def lfs_pointer(name: str) -> FormatError:
    """The refusal of a Git LFS pointer that stands where the file should be."""
    return FormatError(
        f"{name} is a Git LFS pointer, not the file itself", hint="run 'git lfs pull' in its repository"
    )


def _check_metadata(file: str, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"{file}: __metadata__ must map text to text", hint=_WRITTEN)


def _entry(file: str, name: str, value: Any) -> TensorEntry:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)]} if (
            len(value) == 3
        ):
            pass
        case _:
            raise FormatError(
                f"{file}: tensor {excerpt(name)} is described by {excerpt(value, 120)}", hint=_WRITTEN
            )
    if len(shape) > MAX_DIMENSIONS:
        raise FormatError(
            f"{file}: tensor {excerpt(name)} has {len(shape)} dimensions > {MAX_DIMENSIONS}",
            hint=_NOT_AN_ADAPTER,
        )
    for size in (*shape, start, stop):
        if type(size) is not int or size < 0:
            what = f"a negative or fractional size in {excerpt(value, 120)}"
            raise FormatError(f"{file}: tensor {excerpt(name)} has {what}", hint=_WRITTEN)
        if size >= MAX_SIZE:
            raise FormatError(
                f"{file}: tensor {excerpt(name)} has a size of {excerpt(size)} >= {MAX_SIZE}", hint=_WRITTEN
            )
    if dtype not in ITEM_SIZES:
        raise FormatError(
            f"{file}: tensor {excerpt(name)} has dtype {excerpt(dtype)}; "
            f"a LoRA factor is one of {', '.join(ITEM_SIZES)}",
            hint="save the adapter unquantised",
        )
    expected = math.prod(shape) * ITEM_SIZES[dtype]
    if stop - start != expected:
        raise FormatError(
            f"{file}: tensor {excerpt(name)} of shape {shape} needs {expected} bytes, but has {stop - start}",
            hint=_WRITTEN,
        )
    return TensorEntry(name, dtype, tuple(shape), start, stop)


def _check_coverage(file: str, entries: list[TensorEntry], available: int) -> None:
    """Bytes that no tensor owns could hold anything; bytes that two own are a lie. Neither is let in."""
    end = 0
    for entry in entries:
        if entry.start != end:
            what = "overlaps the one before it" if entry.start < end else "leaves a gap before it"
            raise FormatError(
                f"{file}: tensor {excerpt(entry.name)} {what} (starts at {entry.start}, expected {end})",
                hint=_WRITTEN,
            )
        end = entry.stop
    if end != available:
        raise FormatError(
            f"{file}: its tensors take {end} bytes, but {available} follow the header",
            hint="the file is truncated or padded",
        )
