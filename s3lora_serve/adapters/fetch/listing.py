"""What an adapter's folder may hold: the names and the number of its files, before any is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.adapters.fetch.other_formats import no_weights
from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME
from s3lora_serve.errors import FormatError, LimitError, UnsafeFileError
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.config import LimitsConfig


def check_listing(names: Sequence[str], limits: LimitsConfig, needed: Sequence[str]) -> None:
    """Check what a folder says it holds, before anything is read.

    Raises LimitError for too many files, and where one of ``needed`` is absent what the folder is instead:
    UnsafeFileError for a pickle, UnsupportedError for another format, FormatError.
    """
    if len(names) > limits.max_files:
        raise LimitError(
            f"the folder holds {len(names)} files > {limits.max_files}; raise limits.max_files",
            hint="or copy the adapter's two files into a folder of their own",
        )
    for name in reversed(needed):  # absent weights are the better message
        if name in names:
            continue
        if name != CONFIG_NAME:
            raise no_weights(names)
        raise FormatError(
            f"there is no {CONFIG_NAME} in the folder",
            hint="copy it from where the adapter was saved: PEFT writes it beside the weights",
        )


def check_names(names: Sequence[str]) -> None:
    """Refuse a listing in which a name leaves the folder: archives and object stores may say anything.

    Raises UnsafeFileError.
    """
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise UnsafeFileError(
                f"the name {excerpt(name)} leaves the adapter's folder",
                hint="the listing is not that of a plain folder: copy the adapter's two files elsewhere",
            )


def symlink(name: str, *, cached: bool = False) -> UnsafeFileError:
    """The refusal of a symbolic link in place of a file; ``cached``: it leads to a folder of blobs."""
    if cached:
        return UnsafeFileError(
            f"{name} is a symbolic link into another folder, as it seems into the Hub's cache",
            hint="name the snapshot in that cache (models--org--name/snapshots/<commit>), or hf://org/name",
        )
    return UnsafeFileError(
        f"{name} is a symbolic link, which may lead anywhere",
        hint="copy the file itself into the folder; links are followed only inside a download of the Hub's"
        " client",
    )
