"""Folders without PEFT's weights: what they are instead, and what makes an adapter of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME
from s3lora_serve.errors import AdapterError, FormatError, UnsafeFileError, UnsupportedError
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from collections.abc import Sequence

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
PICKLED_WEIGHTS = "adapter_model.bin"  # as PEFT called them before it wrote safetensors
MLX_WEIGHTS = "adapters.safetensors"
_SHARD = re.compile(r"adapter_model-\d+-of-\d+\.(safetensors|bin)|adapter_model\.\w+\.index\.json")
_WHOLE = re.compile(r"(model|pytorch_model|consolidated)(-\d+-of-\d+|\.\d+)?\.(safetensors|bin|pth)")
_CHECKPOINT = re.compile(r"checkpoint-\d+")
_SHOWN = 8  # names in a message


def is_pickle(name: str) -> bool:
    """Whether a file of this name is opened by unpickling."""
    return Path(name).suffix.lower() in PICKLES


def no_weights(names: Sequence[str]) -> AdapterError:
    """The refusal of a folder with these files, none of which are PEFT's weights."""
    if MLX_WEIGHTS in names:
        return UnsupportedError(
            f"{MLX_WEIGHTS} is MLX's own format, not PEFT's",
            hint="convert it to a PEFT folder",
            command="s3lora convert SOURCE NEW_FOLDER",
        )
    if any(map(_SHARD.fullmatch, names)):
        return UnsupportedError(
            f"the adapter is saved in several parts, without {WEIGHTS_NAME}",
            hint="load it with PEFT and save it again with save_pretrained, which writes one file",
        )
    if PICKLED_WEIGHTS in names:
        return UnsafeFileError(
            f"{PICKLED_WEIGHTS} is a pickle, which can run code when it is opened; it was not",
            hint="convert it to safetensors; or save it with safe_serialization=True where its code does no"
            " harm",
            command="s3lora convert SOURCE NEW_FOLDER",
        )
    if whole := next(filter(_WHOLE.fullmatch, names), None):
        return UnsupportedError(
            f"there is no {WEIGHTS_NAME} in the folder: {whole} is a whole model, not an adapter",
            hint="name the folder of the LoRA adapter, before it was merged",
        )
    if pickle := next(filter(is_pickle, names), None):
        return UnsafeFileError(
            f"{_shown(pickle)} is a pickle, which can run code when it is opened; it was not",
            hint="save the adapter with safe_serialization=True where running its code is harmless",
        )
    if gguf := next((name for name in names if name.lower().endswith(".gguf")), None):
        return UnsupportedError(
            f"{_shown(gguf)} is llama.cpp's format, not PEFT's",
            hint="name the PEFT adapter that it was converted from",
        )
    absent = f"there is no {WEIGHTS_NAME} in the folder"
    if "blobs" in names and "snapshots" in names:
        return FormatError(
            absent, hint="it is a repository in the Hub's cache: name a folder in its snapshots"
        )
    if checkpoint := next(filter(_CHECKPOINT.fullmatch, sorted(names, reverse=True)), None):
        return FormatError(absent, hint=f"name the folder in it that has them, such as {checkpoint}")
    shown = ", ".join(_shown(name) for name in names[:_SHOWN]) or "nothing"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return FormatError(absent, hint=f"it holds {shown}{more}; name the folder that PEFT saved")


def _shown(name: str) -> str:
    """A name as it is, unless it is long or has characters that are better written out."""
    return name if name.isprintable() and len(name) <= 80 else excerpt(name)
