"""A safetensors header is believed only as far as it agrees with itself and with the file."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from s3lora_serve.adapters.peft import safetensors_header
from s3lora_serve.adapters.peft.safetensors_header import (
    MAX_DIMENSIONS,
    MAX_HEADER_BYTES,
    MAX_SIZE,
    TensorEntry,
    read_header,
)
from s3lora_serve.errors import FormatError


def entry(start: int, stop: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    """One tensor's row in the header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def write(folder: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file with this header (JSON, or raw bytes) and data; ``length`` lies about the header's length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "adapter_model.safetensors"
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)
    return path


def test_a_file_of_the_library_is_read_as_it_was_written(tmp_path: Path):
    """Names, dtypes, shapes and offsets, in file order; float64 first, as the library lays them out."""
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2, 3).half(), "b": torch.ones(1, dtype=torch.float64)}, path)
    assert read_header(path).entries == (
        TensorEntry("b", "F64", (1,), 0, 8),
        TensorEntry("a", "F16", (2, 3), 8, 20),
    )
    assert path.read_bytes().startswith(read_header(path).raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is 0 bytes long: too short for safetensors"),
        (b"\x08\0\0", "is 3 bytes long: too short for safetensors"),
        (b"\xff" * 8, "its header claims 18446744073709551615 bytes, but only 0 follow"),
        (b"\x80\x02" * 40, "bytes, but only 72 follow"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            "is a Git LFS pointer, not the file itself",
        ),
        ((3).to_bytes(8, "little") + b"[1]", "its header does not start with '{'"),
        ((3).to_bytes(8, "little") + b"{x}", "its header is not JSON"),
        ((2).to_bytes(8, "little") + b"{}" + b"\0", "its tensors take 0 bytes, but 1 follow the header"),
    ],
)
def test_files_that_are_not_safetensors_are_refused(tmp_path: Path, raw: bytes, message: str):
    """Empty, cut short, lying about the length, a pointer, or other bytes altogether."""
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(raw)
    with pytest.raises(FormatError) as caught:
        read_header(path)
    assert message in caught.value.message


def test_a_huge_header_is_refused_unread(tmp_path: Path):
    """The length is checked against a cap before the header is read: a sparse file costs nothing."""
    path = tmp_path / "adapter_model.safetensors"
    with path.open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER_BYTES + 100)
    with pytest.raises(
        FormatError, match=f"its header of {MAX_HEADER_BYTES + 1} bytes is over {MAX_HEADER_BYTES}"
    ):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, 12, "tensor 'b' overlaps the one before it"),
        ({"a": entry(0, 8, [2]), "b": entry(0, 8, [2])}, 8, "tensor 'b' overlaps the one before it"),
        ({"a": entry(0, 8, [2]), "b": entry(12, 20, [2])}, 20, "tensor 'b' leaves a gap before it"),
        ({"a": entry(4, 12, [2])}, 12, "tensor 'a' leaves a gap before it (starts at 4, expected 0)"),
        ({"a": entry(0, 8, [2])}, 7, "its tensors take 8 bytes, but 7 follow the header"),
        ({"a": entry(0, 8, [2])}, 9, "its tensors take 8 bytes, but 9 follow the header"),
        ({"a": entry(0, 8, [3])}, 8, "of shape [3] needs 12 bytes, but has 8"),
        ({"a": entry(8, 0, [2])}, 8, "of shape [2] needs 8 bytes, but has -8"),
        ({"a": entry(0, 8, [-1, -2])}, 8, "has a negative or fractional size"),
        ({"a": entry(0, 8, [True, 2])}, 8, "has a negative or fractional size"),
        ({"a": entry(0, 4, [2], "I16")}, 4, "has dtype 'I16'; a LoRA factor is one of F64, F32, F16, BF16"),
        ({"a": entry(0, 2, [2], "BOOL")}, 2, "has dtype 'BOOL'"),
        ({"a": entry(0, 2, [2], "F8_E4M3")}, 2, "has dtype 'F8_E4M3'"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "tensor 'a' is described by {'dtype'"),
        ({"a": entry(0, 8, [2]) | {"x": 1}}, 8, "tensor 'a' is described by"),
        ({"a": 3}, 0, "tensor 'a' is described by 3"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__ must map text to text"),
        (b'{"a": 1, "a": 2}', 0, "key 'a' appears twice"),
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, header: object, size: int, message: str):
    """Every byte after the header belongs to exactly one tensor, and every size adds up."""
    path = write(tmp_path, header, bytes(size))
    with pytest.raises(FormatError) as caught:
        read_header(path)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (entry(0, 4, [10**4000] * 2), f">= {MAX_SIZE}"),
        (entry(0, 4, [MAX_SIZE, 0]), f"has a size of {MAX_SIZE} >= {MAX_SIZE}"),
        (entry(0, 10**4000, [1]), f">= {MAX_SIZE}"),
        (entry(10**4000, 10**4000 + 4, [1]), f">= {MAX_SIZE}"),
        (entry(0, 4, [1] * 9), f"has 9 dimensions > {MAX_DIMENSIONS}"),
        (entry(0, 4, [10**4000] * 9), f"has 9 dimensions > {MAX_DIMENSIONS}"),
        (entry(0, 4, [1], "x" * 5000), "has dtype 'xxx"),
        ({"dtype": "F32", "shape": ["x" * 5000], "data_offsets": [0, 4]}, "a negative or fractional size"),
    ],
)
def test_sizes_are_bounded_before_they_are_multiplied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, object], message: str
):
    """Products of thousand-digit numbers take minutes and cannot be printed; messages quote a part."""
    monkeypatch.setattr(safetensors_header.math, "prod", lambda shape: pytest.fail("it was multiplied"))
    with pytest.raises(FormatError) as caught:
        read_header(write(tmp_path, {"w" * 5000: row}, bytes(4)))
    assert message in caught.value.message
    assert len(caught.value.message) < 500


def test_too_many_tensors_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Counted before any of them is looked at."""
    monkeypatch.setattr(safetensors_header, "MAX_TENSORS", 2)
    with pytest.raises(FormatError, match=r"adapter_model\.safetensors holds 3 tensors > 2"):
        read_header(write(tmp_path, dict.fromkeys("abc", 0)))


@settings(deadline=None)
@given(st.data())
def test_whatever_is_accepted_the_library_reads_alike(data: st.DataObject):
    """A file spoilt at random is refused, or holds what the library finds in it; nothing else is raised."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        save_file(
            {"a": torch.arange(6.0).reshape(2, 3), "bb": torch.ones(4).half()},
            path,
            metadata={"format": "pt"},
        )
        raw = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            index = data.draw(st.integers(0, len(raw) - 1))
            if data.draw(st.booleans()):
                raw[index] = data.draw(st.integers(0, 255))
            else:
                del raw[index : index + data.draw(st.integers(1, 8))]
        path.write_bytes(raw)
        try:
            entries = read_header(path).entries
        except FormatError:
            return
        try:
            with safe_open(path, framework="pt") as file:
                found = {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
        except SafetensorError:
            return  # the library is stricter in places, and it reads the file after us
        assert found == {item.name: item.shape for item in entries}
