"""What an adapter's folder may hold: names, kinds, number and sizes of its files, before any is opened."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME
from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME
from s3lora_serve.errors import FormatError, LimitError, UnsafeFileError

if TYPE_CHECKING:
    from s3lora_serve.config import LimitsConfig

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})


def check_files(folder: Path, limits: LimitsConfig) -> None:
    """Check names, kinds, number and sizes of the files in ``folder`` (not below it); opens none of them.

    Raises UnsafeFileError, LimitError or FormatError.
    """
    entries = sorted(folder.iterdir())
    check_listing([entry.name for entry in entries], limits)
    total = 0
    for entry in entries:
        status = entry.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise symlink(entry.name)
        if entry.name in (CONFIG_NAME, WEIGHTS_NAME):
            if not stat.S_ISREG(status.st_mode):
                raise UnsafeFileError(f"{entry.name} is not a regular file")
            total += status.st_size
    if total > limits.max_bytes:
        raise LimitError(f"the adapter has {total} bytes > {limits.max_bytes}; raise limits.max_adapter_mib")


def check_listing(names: list[str], limits: LimitsConfig) -> None:
    """Check what a folder says it holds, before anything is read.

    Raises UnsafeFileError if a name leaves the folder or the weights are a pickle, LimitError for too many
    files, FormatError if a needed file is absent.
    """
    if len(names) > limits.max_files:
        raise LimitError(f"the folder holds {len(names)} files > {limits.max_files}; raise limits.max_files")
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise UnsafeFileError(f"the name {name!r} leaves the adapter's folder")
    if WEIGHTS_NAME not in names:
        if pickle := next((name for name in names if is_pickle(name)), None):
            raise UnsafeFileError(
                f"{pickle} is a pickle, which can run code when it is opened; it was not",
                hint="save the adapter with safe_serialization=True where running its code is harmless",
            )
        raise FormatError(
            f"there is no {WEIGHTS_NAME} in the folder", hint=f"it holds {', '.join(names) or 'nothing'}"
        )
    if CONFIG_NAME not in names:
        raise FormatError(f"there is no {CONFIG_NAME} in the folder")


def is_pickle(name: str) -> bool:
    """Whether a file of this name is opened by unpickling."""
    return Path(name).suffix.lower() in PICKLES


def symlink(name: str) -> UnsafeFileError:
    """The refusal of a symbolic link in an adapter's folder."""
    return UnsafeFileError(
        f"{name} is a symbolic link",
        hint="copy the file itself into the folder; for the Hub's cache use hf://",
    )
