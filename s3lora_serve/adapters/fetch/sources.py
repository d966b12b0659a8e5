"""A local folder, the Hugging Face Hub or any fsspec URL → a private copy of the two files that matter."""

from __future__ import annotations

import os
import re
import stat
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import fsspec
import tenacity

from s3lora_serve.adapters.fetch.hub import OFFLINE, cached, download, list_folder
from s3lora_serve.adapters.fetch.listing import check_files, check_listing, symlink
from s3lora_serve.adapters.fetch.private_copy import COPIED, ByteReader, Fetched, check_sizes, copy_adapter
from s3lora_serve.adapters.fetch.progress import Progress, silent
from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME
from s3lora_serve.errors import S3LoRAError, SourceError, UnsafeFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3lora_serve.config import LimitsConfig

__all__ = ["Fetched", "fetch"]

ATTEMPTS = 4
# What a retry cannot fix.
_PERMANENT = (
    S3LoRAError,
    OFFLINE,
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    ImportError,
    ValueError,
    TypeError,
)
_T = TypeVar("_T")


def fetch(source: str, dest: Path, limits: LimitsConfig, progress: Progress | None = None) -> Fetched:
    """Copy the adapter at ``source`` into ``dest``; afterwards the source may change or vanish.

    ``source`` is a local folder, ``hf://org/name[@revision][/folder]`` or an fsspec URL of a folder
    (``s3://``, ``zip://…::…``). Only adapter_config.json and adapter_model.safetensors are copied. Raises
    SourceError, UnsafeFileError, LimitError, FormatError; StoreError when ``dest`` cannot be written to.
    """
    tell = progress or silent
    local = _local_path(source)
    try:
        if local is not None:
            fetched = _fetch_local(local, dest, limits, tell)
        elif source.startswith("hf://"):
            fetched = _fetch_hub(source, dest, limits, tell)
        else:
            fetched = _patiently(lambda: _fetch_url(source, dest, limits, tell))
    except S3LoRAError:
        raise
    except Exception as error:  # drivers raise their own types: the boundary where they become ours
        raise _unavailable(source, error) from error
    tell("fetch", 1.0)
    return fetched


def _local_path(source: str) -> Path | None:
    """The folder that ``source`` names on this machine, or None for a remote one."""
    if "::" in source:
        return None
    if match := re.match(r"(?:file|local)://(/.*)", source):
        return Path(match[1])
    return None if "://" in source else Path(source).expanduser()


def _fetch_local(folder: Path, dest: Path, limits: LimitsConfig, progress: Progress) -> Fetched:
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "not there"
        raise SourceError(
            f"{folder} is {kind}; an adapter is a folder",
            hint="name a local folder, hf://org/name or a URL with its scheme",
        )
    check_files(folder, limits)
    names = sorted(entry.name for entry in folder.iterdir())
    sizes: dict[str, int | None] = {name: (folder / name).lstat().st_size for name in COPIED}
    uri = folder.resolve().as_uri()
    return copy_adapter(uri, names, lambda name: _open_regular(folder / name), sizes, dest, limits, progress)


@contextmanager
def _open_regular(path: Path) -> Iterator[FileIO]:
    """Open a file that may have been swapped since it was checked: no link is followed and no pipe blocks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise (symlink(path.name) if path.is_symlink() else error) from error
    with FileIO(descriptor) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UnsafeFileError(f"{path.name} is not a regular file")
        yield file


def _fetch_hub(source: str, dest: Path, limits: LimitsConfig, progress: Progress) -> Fetched:
    listed: set[str] = set()
    try:
        listing = _patiently(lambda: list_folder(source))
        listed = set(listing.sizes)
        check_listing(sorted(listed), limits)
        check_sizes(listing.sizes, limits)
        folder = _patiently(lambda: download(source))
    except S3LoRAError:
        raise
    except Exception as error:  # whatever the client raises when the Hub does not answer
        folder = cached(source, error)
    names = sorted(listed | {entry.name for entry in folder.path.iterdir()})
    check_listing(names, limits)

    # The cache is made of links into its own blobs; it is the client's, not the adapter author's.
    sizes: dict[str, int | None] = {name: (folder.path / name).stat().st_size for name in COPIED}
    return copy_adapter(
        folder.uri, names, lambda name: (folder.path / name).open("rb"), sizes, dest, limits, progress
    )


def _fetch_url(source: str, dest: Path, limits: LimitsConfig, progress: Progress) -> Fetched:
    system, root = fsspec.core.url_to_fs(source)
    root = root.rstrip("/")
    sizes: dict[str, int | None] = {}
    for entry in system.ls(root, detail=True):
        name = _name_below(root, str(entry["name"]))
        if entry["type"] == "link" or entry.get("islink"):
            raise symlink(name)
        sizes[name] = entry.get("size")
    names = sorted(sizes)
    check_listing(names, limits)

    def open_file(name: str) -> AbstractContextManager[ByteReader]:
        return cast(
            "AbstractContextManager[ByteReader]", system.open(f"{root}/{name}" if root else name, "rb")
        )

    return copy_adapter(redacted(source), names, open_file, sizes, dest, limits, progress)


def _name_below(root: str, path: str) -> str:
    """The last part of ``path``; raises if it does not lie directly in ``root``."""
    parent, _, name = path.rstrip("/").rpartition("/")
    if root and path.strip("/") == root.strip("/"):
        raise SourceError(f"{root} is a file; an adapter is a folder")
    if parent.strip("/") != root.strip("/"):
        raise UnsafeFileError(f"{path!r} leaves the adapter's folder {root!r}")
    return name


def _patiently(attempt: Callable[[], _T]) -> _T:
    """Try again on what may pass: time-outs, resets, throttling. Waits 0.2 s, doubling, with jitter."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=0.2, max=5) + tenacity.wait_random(0, 0.2),
        retry=tenacity.retry_if_not_exception_type(_PERMANENT),
        reraise=True,
    )
    return retrying(attempt)


def _unavailable(source: str, error: Exception) -> SourceError:
    where = redacted(source)
    if isinstance(error, ImportError):
        return SourceError(
            f"{where}: its driver is not installed ({_without_secrets(str(error), source)})",
            hint="install the fsspec driver of this scheme, such as s3fs",
        )
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{where}: there is no such folder, or no {WEIGHTS_NAME} in it")
    reason = _without_secrets(str(error), source)[:200]
    return SourceError(f"{where} could not be read: {type(error).__name__}: {reason}")


def _without_secrets(text: str, source: str) -> str:
    """``text`` without what ``redacted`` hides of ``source``: drivers quote addresses in their errors."""
    for part in source.split("::"):
        pieces = urlsplit(part)
        for secret in (pieces.username, pieces.password, pieces.query, pieces.fragment):
            text = text.replace(secret, "***") if secret else text
    return text


def redacted(url: str) -> str:
    """``url`` without user, password and query, which may hold credentials; chained URLs part by part."""

    def clean(part: str) -> str:
        if "://" not in part:
            return part
        pieces = urlsplit(part)
        host = pieces.netloc.rpartition("@")[2]
        return urlunsplit((pieces.scheme, host, pieces.path, "", "")) if host else part.partition("?")[0]

    return "::".join(clean(part) for part in url.split("::"))
