"""Names of tensors as training wrappers leave them: what the wrappers added is taken off, and said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What torch puts around modules: activation checkpointing, FSDP, torch.compile. No model has such names.
WRAPPERS = ("_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_orig_mod")
# What stands before PEFT's prefix if the model around it was saved: by DDP, DeepSpeed or Fabric, and TRL.
_AROUND = frozenset({"module", "_forward_module", "pretrained_model", *WRAPPERS})
_PEFT = ("base_model", "model")
_PREFIX = "base_model.model."
_IN_TEXT = re.compile(rf"(?:{'|'.join(WRAPPERS)})\\?\.")


def unwrapped(name: str) -> str:
    """The tensor's name as PEFT writes it, if wrappers alone tell the two apart; else the name as it is."""
    if name.startswith(_PREFIX) and not name.startswith(_PREFIX * 2) and not _IN_TEXT.search(name):
        return name  # nearly all of them
    parts = name.split(".")
    while parts[0] in _AROUND:
        parts = parts[1:]
        if not parts:
            return name
    parts = [part for part in parts if part not in WRAPPERS]
    while tuple(parts[:4]) == (*_PEFT, *_PEFT):  # PEFT around PEFT
        parts = parts[2:]
    return ".".join(parts)


def without_wrappers(text: str) -> str:
    """A target module or a pattern of adapter_config.json without the wrappers that it names."""
    return _IN_TEXT.sub("", text)


def unwrapping_note(names: Iterable[str]) -> Iterator[str]:
    """What is said of tensors whose names ``unwrapped`` changes."""
    changed = [name for name in names if unwrapped(name) != name]
    if changed:
        yield (
            f"{len(changed)} tensors have names of training wrappers in them, which were taken off:"
            f" {changed[0][:120]}"
        )
