"""A bounded, hashed copy of an adapter's files from any opener into a folder that only we write to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from s3lora_serve.adapters.fetch.other_formats import is_pickle
from s3lora_serve.adapters.peft.adapter_config import CONFIG_NAME
from s3lora_serve.adapters.peft.peft_format import WEIGHTS_NAME
from s3lora_serve.errors import LimitError, StoreError
from s3lora_serve.storage.hashing_file import LAG, HashedFile, HashingWriter

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.adapters.fetch.progress import Progress
    from s3lora_serve.config import LimitsConfig

MAX_CONFIG_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20  # buffers of this size, used in turn, stay in the cache: half the time of fresh ones
COPIED = (CONFIG_NAME, WEIGHTS_NAME)


class ByteReader(Protocol):
    """The part of a binary file that copying needs."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill at most the whole buffer; 0 at the end."""
        ...


Opener = Callable[[str], AbstractContextManager[ByteReader]]


@dataclass(frozen=True)
class Fetched:
    """A private copy. ``uri`` is the resolved source without credentials."""

    folder: Path
    uri: str
    weights: HashedFile
    config: HashedFile
    ignored: tuple[str, ...]  # file names in the source that were not copied

    @property
    def sha256(self) -> str:
        """sha256 (64 hex digits) of the source's weights file."""
        return self.weights.sha256

    @property
    def bytes(self) -> int:
        """Bytes copied."""
        return self.weights.bytes + self.config.bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about the files that were left behind."""
        return tuple(f"{name} is a pickle: ignored, never opened" for name in self.ignored if is_pickle(name))


def copy_adapter(
    uri: str,
    names: list[str],
    open_file: Opener,
    sizes: Mapping[str, int | None],
    dest: Path,
    limits: LimitsConfig,
    progress: Progress,
) -> Fetched:
    """Copy the known files, made anew, into the folder ``dest``, hashing and counting on the way.

    What comes is counted, whatever ``sizes`` said. Raises LimitError, what ``open_file`` raises, and
    StoreError when the copy cannot be written: that is no fault of the source.
    """
    progress("fetch", 0.0)  # raises if nothing waits for it any more
    check_sizes(sizes, limits)
    copies: dict[str, HashedFile] = {}
    for name in COPIED:
        size, cap = sizes.get(name), _cap(name, limits)
        with open_file(name) as source, _new_file(dest / name) as writer:
            copied = 0
            for buffer in itertools.cycle([memoryview(bytearray(CHUNK_BYTES)) for _ in range(LAG + 1)]):
                if not (read := source.readinto(buffer)):
                    break
                copied += read
                if copied > cap:
                    raise _too_big(name, "more", cap)
                with writing(name):
                    writer.write(buffer[:read])
                if name == WEIGHTS_NAME and size:
                    progress("fetch", min(1.0, copied / size))
            with writing(name):
                copies[name] = writer.finish()
    ignored = tuple(sorted(name for name in names if name not in COPIED))
    return Fetched(dest, uri, copies[WEIGHTS_NAME], copies[CONFIG_NAME], ignored)


def _new_file(path: Path) -> HashingWriter:
    with writing(path.name):
        path.unlink(missing_ok=True)  # what an interrupted try left
        return HashingWriter(path)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """What the disk refuses while we write, told apart from what a source refuses while it is read."""
    try:
        yield
    except OSError as error:
        raise unwritten(what, error) from error


def unwritten(what: str, error: OSError) -> StoreError:
    """What an OSError means while we write."""
    return StoreError(
        f"the copy of the adapter ({what}) could not be written: {error.strerror or error}",
        hint="free space on the disk of store.path (of TMPDIR, if nothing is published)",
    )


def check_sizes(sizes: Mapping[str, int | None], limits: LimitsConfig) -> None:
    """Refuse by declared size what copying would refuse. Raises LimitError."""
    for name in COPIED:
        size, cap = sizes.get(name), _cap(name, limits)
        if size is not None and size > cap:
            raise _too_big(name, f"{size} bytes", cap)


def _cap(name: str, limits: LimitsConfig) -> int:
    return min(MAX_CONFIG_BYTES, limits.max_bytes) if name == CONFIG_NAME else limits.max_bytes


def _too_big(name: str, size: str, cap: int) -> LimitError:
    knob = "" if name == CONFIG_NAME else "raise limits.max_adapter_mib"
    return LimitError(f"{name} has {size} > {cap} bytes", hint=knob)
