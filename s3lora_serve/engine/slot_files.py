"""What an engine needs of a slot's folder before it may try to load it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import SlotLoadError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from s3lora_serve.engine.port import Slot

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_MAX_HEADER = 100 * 1024 * 1024  # bytes; the safetensors library refuses longer headers


@dataclass(frozen=True)
class SlotFiles:
    """A slot's adapter config and the header of its weights: tensor name → dtype, shape, data_offsets."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Any]]
    weights: Path
    data_start: int  # byte at which the tensors begin; offsets count from here


def read_slot_files(slot: Slot) -> SlotFiles:
    """Read config and header, no weights. Raises SlotLoadError for a folder that must not reach the engine.

    Why before the engine sees it: vLLM takes a path that does not exist for a Hub id and downloads it, and an
    adapter without tensors evicts another one before it fails (lora/worker_manager.py).
    """
    if not slot.path.is_absolute():
        raise SlotLoadError(
            f"slot {slot.name}: path {slot.path} is relative",
            hint="give the absolute path of a published revision",
        )
    config = _read_json(slot, slot.path / CONFIG)
    weights = slot.path / WEIGHTS
    tensors, data_start = _read_header(slot, weights)
    if not tensors:
        raise SlotLoadError(
            f"slot {slot.name}: {WEIGHTS} holds no tensors",
            hint="a fully pruned adapter is the base model: route it there",
        )
    return SlotFiles(config=config, tensors=tensors, weights=weights, data_start=data_start)


def _read_json(slot: Slot, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise _missing(slot, path) from error
    except (OSError, ValueError) as error:
        raise SlotLoadError(f"slot {slot.name}: {path.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise SlotLoadError(f"slot {slot.name}: {path.name} is a {type(value).__name__}, not an object")
    return value


def _read_header(slot: Slot, path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _MAX_HEADER:
                raise ValueError(f"header length {length} is not in 2..{_MAX_HEADER}")
            header = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise _missing(slot, path) from error
    except (OSError, ValueError) as error:
        raise SlotLoadError(f"slot {slot.name}: {path.name} is not a safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise SlotLoadError(f"slot {slot.name}: {path.name} has no safetensors header")
    header.pop("__metadata__", None)
    return header, 8 + length


def _missing(slot: Slot, path: Path) -> SlotLoadError:
    return SlotLoadError(
        f"slot {slot.name}: {path} does not exist",
        hint="the revision is gone from the store; admit the adapter again",
    )
