"""A folder without PEFT's weights is refused as what it is, with the next step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from adapter_files import NEEDED
from peft_builder import write_folder

from s3lora_serve.adapters.fetch.listing import check_listing
from s3lora_serve.adapters.fetch.sources import fetch
from s3lora_serve.config import LimitsConfig
from s3lora_serve.errors import AdapterError, FormatError, UnsafeFileError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["adapter_model.bin", "weights.pt", "x.pth", "x.pkl", "x.pickle", "x.CKPT"])
def test_pickles_are_refused_unopened(tmp_path: Path, name: str):
    """A pickle runs code when it is opened: this one is a pipe, and opening it would block."""
    folder = write_folder(tmp_path / "adapter")
    (folder / NEEDED[1]).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UnsafeFileError) as caught:
        fetch(str(folder), tmp_path / "copy", LimitsConfig())
    assert caught.value.message == f"{name} is a pickle, which can run code when it is opened; it was not"
    assert "safe_serialization=True" in caught.value.hint
    assert ("s3lora convert" in caught.value.command) == (name == "adapter_model.bin")


@pytest.mark.parametrize(
    ("names", "error", "message", "hint"),
    [
        ([NEEDED[0], "adapters.safetensors"], UnsupportedError, "MLX's own format", "convert it"),
        ([NEEDED[0], "adapters.safetensors", "0000100_adapters.safetensors"], UnsupportedError, "MLX", ""),
        (
            [NEEDED[0], "adapter_model-00001-of-00002.safetensors"],
            UnsupportedError,
            "several parts",
            "one file",
        ),
        (["adapter_model.safetensors.index.json"], UnsupportedError, "in several parts", "save_pretrained"),
        (["config.json", "model.safetensors"], UnsupportedError, "a whole model, not an adapter", "merged"),
        (["model-00001-of-00004.safetensors"], UnsupportedError, "a whole model", "before it was merged"),
        (["pytorch_model-00001-of-00004.bin"], UnsupportedError, "a whole model", "before it was merged"),
        (["lora.GGUF"], UnsupportedError, "llama.cpp's format", "converted from"),
        (["checkpoint-100", "checkpoint-20"], FormatError, "no adapter_model.safetensors", "checkpoint-20"),
        (["blobs", "refs", "snapshots"], FormatError, "no adapter_model.safetensors", "snapshots"),
        (["README.md"], FormatError, "no adapter_model.safetensors", "it holds README.md"),
        ([], FormatError, "no adapter_model.safetensors", "it holds nothing"),
    ],
)
def test_the_real_cause_and_the_next_step(
    names: list[str], error: type[AdapterError], message: str, hint: str
):
    """By the names alone."""
    with pytest.raises(error) as caught:
        check_listing(names, LimitsConfig(), NEEDED)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.hint


def test_names_in_a_message_are_bounded_and_printable():
    """They come from outside: as many as help, none that a terminal would act on."""
    with pytest.raises(FormatError) as caught:
        check_listing(["\x1b[31m" + "x" * 5000, *(f"{n}" for n in range(50))], LimitsConfig(), NEEDED)
    assert len(caught.value.hint) < 300
    assert caught.value.hint.isprintable()
    assert "and 43 more" in caught.value.hint
