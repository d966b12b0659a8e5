"""The two files of a folder on this machine, each opened once: what was checked is what is read.

No link is followed, with one exception. A download of the Hub's client is a folder of links,
``models--org--name/snapshots/<commit>/…`` → ``models--org--name/blobs/…``. The text of such a link says which
blob is meant, and that blob is opened in its folder, by its name: a link that changes, and one behind it,
lead nowhere else.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from s3lora_serve.adapters.fetch.listing import check_listing, symlink
from s3lora_serve.adapters.fetch.private_copy import COPIED
from s3lora_serve.errors import LimitError, SourceError, UnsafeFileError
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3lora_serve.config import LimitsConfig

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe does not block
_REPOSITORY = re.compile(r"models--[\w.-]+", re.ASCII)
_BLOB = re.compile(r"\w[\w.-]*", re.ASCII)


@contextmanager
def opened(
    folder: Path, limits: LimitsConfig, names: tuple[str, ...] = COPIED
) -> Iterator[tuple[list[str], Mapping[str, FileIO]]]:
    """What lies in ``folder``, a real path, and the files ``names`` of it, open.

    Files of other names are neither looked at nor a reason to refuse. Raises UnsafeFileError for what is no
    regular file, LimitError, FormatError for an absent file, SourceError for a download that is not whole.
    """
    with ExitStack() as stack:
        at = os.open(folder, _FOLDER)
        stack.callback(os.close, at)
        listed = sorted(os.listdir(at))  # noqa: PTH208  (of the folder that is open)
        check_listing(listed, limits, names)
        files = {name: stack.enter_context(_regular(folder, at, name)) for name in names}
        total = sum(os.fstat(file.fileno()).st_size for file in files.values())
        if total > limits.max_bytes:
            raise LimitError(
                f"the adapter has {total} bytes > {limits.max_bytes}; raise limits.max_adapter_mib",
                hint="or is it not the adapter alone that was saved?",
            )
        yield listed, files


@contextmanager
def _regular(folder: Path, at: int, name: str) -> Iterator[FileIO]:
    try:
        descriptor = os.open(name, _FILE, dir_fd=at)
    except OSError as error:
        if not stat.S_ISLNK(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            raise
        descriptor = _blob(folder, name, os.readlink(name, dir_fd=at), error)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafeFileError(f"{name} is not a regular file", hint="copy the file itself into the folder")
    with FileIO(descriptor) as file:
        yield file


def _blob(folder: Path, name: str, link: str, cause: OSError) -> int:
    """The blob that a snapshot's link names, opened in its own folder. Raises UnsafeFileError otherwise."""
    blobs = _blobs_of(folder)
    target = Path(os.path.normpath(folder / link))
    if blobs is None or target.parent != blobs or not _BLOB.fullmatch(target.name):
        raise symlink(name, cached=target.parent.name == "blobs") from cause
    try:
        at = os.open(blobs, _FOLDER)
        try:
            return os.open(target.name, _FILE, dir_fd=at)
        finally:
            os.close(at)
    except FileNotFoundError as error:
        raise SourceError(
            f"{name} leads to blobs/{excerpt(target.name)}, which is not there: the download is not whole",
            hint="run 'hf download' of its repository again",
        ) from error
    except OSError as error:
        raise UnsafeFileError(
            f"{name} leads to blobs/{excerpt(target.name)}, which is not a file ({error.strerror})",
            hint="delete the repository from the cache and run 'hf download' again",
        ) from error


def _blobs_of(folder: Path) -> Path | None:
    """Where the files of the snapshot lie that ``folder`` is a part of; None if it is of none."""
    for parent in folder.parents:
        if parent.name == "snapshots" and _REPOSITORY.fullmatch(parent.parent.name):
            return parent.parent / "blobs"
    return None
