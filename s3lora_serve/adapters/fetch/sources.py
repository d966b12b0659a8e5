"""A local folder, the Hub, a bucket or a web server → a private copy of the two files that matter."""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import fsspec
import tenacity

from s3lora_serve.adapters.fetch.address import HUB, LOCAL, PORTS, Source, hub_address
from s3lora_serve.adapters.fetch.deadline import driver_limits, unanswered, within
from s3lora_serve.adapters.fetch.hub import OFFLINE, cached, download, list_folder
from s3lora_serve.adapters.fetch.listing import check_listing, check_names, symlink
from s3lora_serve.adapters.fetch.local_folder import opened
from s3lora_serve.adapters.fetch.private_copy import (
    CHUNK_BYTES,
    COPIED,
    ByteReader,
    Fetched,
    check_sizes,
    copy_adapter,
    writing,
)
from s3lora_serve.adapters.fetch.progress import Progress, silent
from s3lora_serve.adapters.fetch.reach import EVERYWHERE
from s3lora_serve.adapters.fetch.web_file import below, open_web
from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME
from s3lora_serve.errors import LimitError, S3LoRAError, SourceError, UnsafeFileError
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3lora_serve.adapters.fetch.reach import Reach
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


def fetch(
    source: Source | str,
    dest: Path,
    limits: LimitsConfig,
    progress: Progress | None = None,
    reach: Reach = EVERYWHERE,
) -> Fetched:
    """Copy the adapter at ``source`` into ``dest``; afterwards the source may change or vanish.

    ``source`` is a local folder, ``hf://org/name[@revision][/folder]``, the URL of a folder in a bucket or on
    a web server, or a folder in an archive there (``zip://…::…``). Only adapter_config.json and
    adapter_model.safetensors are copied, from where ``reach`` allows. Raises SourceError, also when
    ``limits.fetch_seconds`` are over, SourceNotAllowed, UnsafeFileError, LimitError, FormatError; StoreError
    when ``dest`` cannot be written to.
    """
    tell, given = progress or silent, Source.of(source)
    with writing("its folder"):
        dest.mkdir(parents=True, exist_ok=True)
    signed = bool(given.place.query)  # a traceback would quote what a driver says of a signed URL
    try:
        fetched = within(
            str(given), limits.fetch_seconds, lambda tell: _fetch(given, dest, limits, tell, reach), tell
        )
    except S3LoRAError:
        raise
    except TimeoutError as error:
        raise unanswered(str(given), limits) from (None if signed else error)
    except Exception as error:  # drivers raise their own types: the boundary where they become ours
        raise _unavailable(given, error) from (None if signed else error)
    tell("fetch", 1.0)
    return fetched


def _fetch(source: Source, dest: Path, limits: LimitsConfig, progress: Progress, reach: Reach) -> Fetched:
    progress("fetch", 0.0)
    reach.check(source)  # in here: it looks where links lead, and their folder may hang
    place = source.place
    if source.archive:
        return _patiently(lambda: _fetch_archive(source, dest, limits, progress, reach), progress)
    if place.scheme == LOCAL:
        return _fetch_local(_as_it_lies(place.path, reach), place.path, dest, limits, progress)
    if place.scheme == HUB:
        return _fetch_hub(source.text, dest, limits, progress)
    if place.scheme in PORTS:
        return _patiently(lambda: _fetch_web(source, dest, limits, progress, reach), progress)
    return _patiently(lambda: _fetch_bucket(source, dest, limits, progress), progress)


def _as_it_lies(path: str, reach: Reach) -> Path:
    """Where links lead now. Raises SourceNotAllowed if that may not be read: they may have changed."""
    given = Path(path).expanduser()
    if not given.exists():
        return given
    real = given.resolve()
    reach.check(Source.parse(str(real)))
    return real


def _fetch_local(folder: Path, given: str, dest: Path, limits: LimitsConfig, progress: Progress) -> Fetched:
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "not there"
        raise SourceError(f"{folder} is {kind}; an adapter is a folder", hint=_meant(folder, given))
    with opened(folder, limits) as (names, files):
        sizes: dict[str, int | None] = {name: os.fstat(f.fileno()).st_size for name, f in files.items()}
        return copy_adapter(
            folder.as_uri(), names, lambda name: nullcontext(files[name]), sizes, dest, limits, progress
        )


def _meant(folder: Path, given: str) -> str:
    """The next step where no folder is: a file's own folder, or the Hub if its name is one of there."""
    if folder.exists():
        return f"name the folder that it is in: {folder.parent}"
    if address := hub_address(given):
        return f"name a folder that exists, or {address} for the repository on the Hub"
    return "name a local folder, hf://org/name or a URL with its scheme"


def _fetch_hub(source: str, dest: Path, limits: LimitsConfig, progress: Progress) -> Fetched:
    listed: set[str] = set()
    try:
        listing = _patiently(lambda: list_folder(source, limits.fetch_read_seconds), progress)
        listed = set(listing.sizes)
        check_listing(sorted(listed), limits, COPIED)
        check_sizes(listing.sizes, limits)
        folder = _patiently(lambda: download(source, limits.fetch_connect_seconds), progress)
    except S3LoRAError:
        raise
    except Exception as error:  # whatever the client raises when the Hub does not answer
        folder = cached(source, error)
    names = sorted(listed | {entry.name for entry in folder.path.iterdir()})
    check_listing(names, limits, COPIED)

    # The cache is made of links into its own blobs; it is the client's, not the adapter author's.
    sizes: dict[str, int | None] = {name: (folder.path / name).stat().st_size for name in COPIED}
    return copy_adapter(
        folder.uri, names, lambda name: (folder.path / name).open("rb"), sizes, dest, limits, progress
    )


def _fetch_web(source: Source, dest: Path, limits: LimitsConfig, progress: Progress, reach: Reach) -> Fetched:
    """Both files by their names: a web server's pages are not read to find out what else is there."""
    with ExitStack() as opened:
        files = {
            name: opened.enter_context(open_web(below(source.place, name), reach, limits))
            for name in reversed(COPIED)  # absent weights are the better message
        }
        sizes = {name: file.size for name, file in files.items()}
        check_sizes(sizes, limits)

        @contextmanager
        def open_file(name: str) -> Iterator[ByteReader]:
            yield files[name]

        return copy_adapter(str(source), list(COPIED), open_file, sizes, dest, limits, progress)


def _fetch_bucket(source: Source, dest: Path, limits: LimitsConfig, progress: Progress) -> Fetched:
    system, root = fsspec.core.url_to_fs(source.text, **driver_limits(source.place.scheme, limits))
    return _fetch_listed(source, system, root, dest, limits, progress)


def _fetch_archive(
    source: Source, dest: Path, limits: LimitsConfig, progress: Progress, reach: Reach
) -> Fetched:
    with _archive(source, dest, limits, reach) as file:
        system = fsspec.filesystem(source.archive, fo=file)
        return _fetch_listed(source, system, source.inside, dest, limits, progress)


@contextmanager
def _archive(source: Source, dest: Path, limits: LimitsConfig, reach: Reach) -> Iterator[IO[bytes]]:
    """The archive as a file to jump about in; one from a web server is copied first, within the limits."""
    place = source.place
    if place.scheme == LOCAL:
        with _as_it_lies(place.path, reach).open("rb") as file:
            yield file
    elif place.scheme not in PORTS:
        system, path = fsspec.core.url_to_fs(str(place), **driver_limits(place.scheme, limits))
        with system.open(path, "rb") as file:
            yield file
    else:
        with writing("its archive"):
            copy = tempfile.NamedTemporaryFile(  # noqa: SIM115  (entered below)
                dir=dest.parent, suffix=PurePosixPath(place.path).suffix
            )
        with copy, open_web(place, reach, limits) as file:
            buffer = memoryview(bytearray(CHUNK_BYTES))
            while read := file.readinto(buffer):
                if copy.tell() + read > limits.max_bytes:
                    raise LimitError(
                        f"{place} has more than {limits.max_bytes} bytes", hint="raise limits.max_adapter_mib"
                    )
                with writing("its archive"):
                    copy.write(buffer[:read])
            copy.seek(0)
            yield cast("IO[bytes]", copy)


def _fetch_listed(
    source: Source, system: Any, root: str, dest: Path, limits: LimitsConfig, progress: Progress
) -> Fetched:
    root = root.rstrip("/")
    sizes: dict[str, int | None] = {}
    for entry in system.ls(root, detail=True):
        name = _name_below(root, str(entry["name"]))
        if name in COPIED and (entry["type"] == "link" or entry.get("islink")):
            raise symlink(name)
        sizes[name] = entry.get("size")
    names = sorted(sizes)
    check_names(names)
    check_listing(names, limits, COPIED)

    def open_file(name: str) -> AbstractContextManager[ByteReader]:
        return cast(
            "AbstractContextManager[ByteReader]", system.open(f"{root}/{name}" if root else name, "rb")
        )

    return copy_adapter(str(source), names, open_file, sizes, dest, limits, progress)


def _name_below(root: str, path: str) -> str:
    """The last part of ``path``; raises if it does not lie directly in ``root``."""
    parent, _, name = path.rstrip("/").rpartition("/")
    if root and path.strip("/") == root.strip("/"):
        raise SourceError(f"{root} is a file; an adapter is a folder", hint="name the folder that it is in")
    if parent.strip("/") != root.strip("/"):
        raise UnsafeFileError(
            f"{excerpt(path)} leaves the adapter's folder {root!r}",
            hint="the listing is not that of a plain folder: copy the adapter's two files elsewhere",
        )
    return name


def _patiently(attempt: Callable[[], _T], progress: Progress) -> _T:
    """Try again on what may pass: time-outs, resets, throttling. Waits 0.2 s, doubling, with jitter."""
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=0.2, max=5) + tenacity.wait_random(0, 0.2),
        retry=tenacity.retry_if_not_exception_type(_PERMANENT),
        reraise=True,
    )

    def once() -> _T:
        progress("fetch", 0.0)  # raises if nothing waits for it any more
        return attempt()

    return retrying(once)


def _unavailable(source: Source, error: Exception) -> SourceError:
    said = source.hidden_in(str(error))
    if isinstance(error, ImportError):
        return SourceError(
            f"{source}: its driver is not installed ({said})",
            hint="install the fsspec driver of this scheme, such as s3fs",
        )
    if isinstance(error, FileNotFoundError):
        return SourceError(
            f"{source}: there is no such folder, or no {WEIGHTS_NAME} in it",
            hint="look whether the name is right, and whether the adapter lies directly in it",
        )
    return SourceError(
        f"{source} could not be read: {type(error).__name__}: {said[:200]}",
        hint="look whether this machine may read it; otherwise copy the adapter to a local folder",
    )
