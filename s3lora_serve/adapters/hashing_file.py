"""Files that are hashed while they are written, so that nothing is read twice."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

BATCH_BYTES = 4 << 20
_MAX_PENDING = 4


@dataclass(frozen=True)
class HashedFile:
    """A file, its sha256 (64 hex digits) and its size in bytes."""

    path: Path
    sha256: str
    bytes: int


class HashingWriter:
    """Write a new file and hash it on a second thread; sha256 takes as long as the write, and neither holds
    the GIL.

    A context manager: leaving it closes the file. ``finish`` gives the digest. The buffers that are passed in
    must not change until then. Raises FileExistsError if the file exists.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self._batch: list[bytes | memoryview] = []
        self._batch_bytes = 0
        self._written = 0
        self._pending: deque[Future[None]] = deque()
        self._file = path.open("xb", buffering=0)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="s3lora-sha256")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data`` (contiguous bytes)."""
        self._batch.append(data)
        self._batch_bytes += len(data)
        self._written += len(data)
        if self._batch_bytes >= BATCH_BYTES:
            self._flush()

    def finish(self, *, sync: bool = False) -> HashedFile:
        """Everything written and hashed; with ``sync``, on the disk too."""
        self._flush()
        while self._pending:
            self._pending.popleft().result()
        if sync:
            os.fsync(self._file.fileno())
        return HashedFile(self._path, self._hash.hexdigest(), self._written)

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._pending.append(self._pool.submit(self._update, batch))
        for data in batch:
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
        while len(self._pending) > _MAX_PENDING:
            self._pending.popleft().result()

    def _update(self, batch: list[bytes | memoryview]) -> None:
        for data in batch:
            self._hash.update(data)
