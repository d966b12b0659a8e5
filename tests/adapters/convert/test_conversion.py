"""Pickled and MLX adapters become PEFT folders, and a hostile pickle becomes nothing and does nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch
from adapters_factory import adapter_limits
from peft_builder import BASE, CONFIG, factors, write_folder
from safetensors.torch import load_file, save_file

from s3lora_serve.adapters.admission import open_adapter
from s3lora_serve.adapters.convert.conversion import convert
from s3lora_serve.adapters.convert.pickle_program import tensors_of
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import AdapterError, ConfigError, FormatError, SourceError, UnsafeFileError

if TYPE_CHECKING:
    from pathlib import Path

LIMITS = LimitsConfig()


def pickled(folder: Path, found: Any) -> Path:
    """A folder as PEFT wrote them before safetensors."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(dict(CONFIG)))
    if isinstance(found, bytes):
        (folder / "adapter_model.bin").write_bytes(found)
    else:
        torch.save(found, folder / "adapter_model.bin")
    return folder


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def left(folder: Path, *known: str) -> list[str]:
    """What else lies in the folder."""
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


def test_a_pickle_becomes_the_same_adapter(tmp_path: Path):
    """Its tensors to the bit, of each dtype; the new folder is admitted, and the old one is as it was."""
    tensors = factors() | {n: t.bfloat16() for n, t in factors().items() if "q_proj" in n}
    source = pickled(tmp_path / "old", tensors)
    before = (source / "adapter_model.bin").read_bytes()
    made = convert(str(source), tmp_path / "new", LIMITS)
    written = load_file(made.folder / "adapter_model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[n], t) and written[n].dtype == t.dtype for n, t in tensors.items())
    assert (made.of, made.tensors) == ("adapter_model.bin", 28)
    fetched, adapter = open_adapter(str(made.folder), tmp_path / "copy", base=BASE, limits=adapter_limits())
    assert (fetched.sha256, len(adapter.modules)) == (made.sha256, 14)
    assert (source / "adapter_model.bin").read_bytes() == before
    assert left(tmp_path, "old", "new", "copy") == []


def test_a_hostile_pickle_does_nothing(tmp_path: Path):
    """Neither in torch's new form nor as a bare pickle; nothing is left behind."""
    mark, bare = tmp_path / "mark", io.BytesIO()
    pickle.dump({"a": Evil(mark)}, bare)
    for number, found in enumerate(({"a": Evil(mark)}, bare.getvalue())):
        source = pickled(tmp_path / f"old{number}", found)
        with pytest.raises(FormatError, match="was not converted") as caught:
            convert(str(source), tmp_path / "new", LIMITS)
        assert len(caught.value.message) < 500
        assert caught.value.message.isprintable()
    assert left(tmp_path, "old0", "old1") == []


def test_a_tensor_that_takes_more_memory_than_its_file_is_refused(tmp_path: Path):
    """A terabyte that is one number in the file."""
    source = pickled(tmp_path / "old", {"a": torch.zeros(1).expand(1 << 20, 1 << 18)})
    with pytest.raises(FormatError, match="its tensors have more than"):
        convert(str(source), tmp_path / "new", LIMITS)
    assert left(tmp_path, "old") == []


def test_a_reader_that_takes_too_long_is_killed(tmp_path: Path):
    """With all that it wrote."""
    source, start = pickled(tmp_path / "old", factors()), time.monotonic()
    with pytest.raises(SourceError, match=r"was not read within 0\.05 s"):
        convert(str(source), tmp_path / "new", LIMITS, seconds=0.05)
    assert time.monotonic() - start < 30
    assert left(tmp_path, "old") == []


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([1], "it holds list"),
        ({"a": 1}, "'a' is int, not a tensor by name"),
        ({1: torch.zeros(1)}, "'1' is Tensor, not a tensor by name"),
        ({"a": {"b": torch.zeros(1)}}, "'a' is dict"),
        ({"a": torch.zeros(1, dtype=torch.int8)}, "floating-point"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "no dense tensor"),
        ({"a": torch.zeros(2, device="meta")}, "no dense tensor"),
        ({"a": torch.zeros(1000)}, "more than 100 bytes"),
    ],
)
def test_only_tensors_by_name_are_read(found: Any, message: str):
    """Whatever else a state dict may hold is named."""
    with pytest.raises(ValueError, match=message):
        tensors_of(found, 100)


def test_shared_memory_and_views_are_copied():
    """safetensors has neither."""
    base = torch.arange(6.0).reshape(2, 3)
    found = tensors_of({"a": base, "b": base.T, "c": base[:, 1]}, 1000)
    assert len({t.data_ptr() for t in found.values()}) == 3
    assert all(t.is_contiguous() for t in found.values())


def test_an_mlx_folder_is_converted_in_this_process(tmp_path: Path):
    """It is safetensors; the sha256 to pin is told."""
    (tmp_path / "mlx").mkdir()
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 4.0}}
    (tmp_path / "mlx/adapter_config.json").write_text(json.dumps(config))
    name = "model.layers.0.self_attn.q_proj"
    tensors = {f"{name}.lora_a": torch.randn(16, 2), f"{name}.lora_b": torch.randn(2, 16)}
    save_file(tensors, tmp_path / "mlx/adapters.safetensors")
    made = convert(str(tmp_path / "mlx"), tmp_path / "new", LIMITS)
    _, adapter = open_adapter(str(made.folder), tmp_path / "copy", base=BASE, limits=adapter_limits())
    assert adapter.modules[name].scaling == 4.0


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("peft", FormatError, "has an adapter_model.safetensors already"),
        ("absent", SourceError, "is no folder"),
        ("s3://bucket/a", SourceError, "is not converted in its place"),
        ("empty", FormatError, "there is no adapter_model.safetensors"),
        ("linked", UnsafeFileError, "is a symbolic link"),
    ],
)
def test_what_is_not_converted_says_why(tmp_path: Path, source: str, error: type[AdapterError], message: str):
    """And nothing is left behind."""
    write_folder(tmp_path / "peft")
    (tmp_path / "empty").mkdir()
    linked = pickled(tmp_path / "linked", b"")
    (linked / "adapter_model.bin").rename(tmp_path / "elsewhere.bin")
    (linked / "adapter_model.bin").symlink_to(tmp_path / "elsewhere.bin")
    given = source if "://" in source else str(tmp_path / source)
    with pytest.raises(error, match=message) as caught:
        convert(given, tmp_path / "new", LIMITS)
    assert caught.value.hint
    assert left(tmp_path, "peft", "empty", "linked", "elsewhere.bin") == []


def test_nothing_is_overwritten(tmp_path: Path):
    """Not even an empty folder."""
    (tmp_path / "new").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        convert(str(tmp_path), tmp_path / "new", LIMITS)
