"""A run's records on the disk, one line each, so that an interrupted run resumes where it stopped."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from s3lora_serve.errors import ConfigError
from s3lora_serve.evaluation.measuring.header import Header
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.storage.canonical_json import strict_loads
from s3lora_serve.storage.durable import sync_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

ANOTHER = "choose another --out, or delete the file to measure anew"


class RecordsFile:
    """An open journal; a context manager. One run at a time writes it.

    ``records`` has what was measured, by ``Cell.key``, in the order of the file.
    """

    def __init__(self, path: Path, header: Header) -> None:
        """Open or begin the journal in ``path``, whose folder must exist.

        A last line that was cut off, by a crash or a full disk, is dropped. Raises ConfigError when another
        run writes it, when its header differs, and for a line that cannot be read.
        """
        self.path, self.header = path, header
        self._records: dict[str, CellRecord] = {}
        self._file: BinaryIO = path.open("a+b")
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise

    @property
    def records(self) -> Mapping[str, CellRecord]:
        """What was measured."""
        return self._records

    def append(self, record: CellRecord) -> None:
        """Write a record down; it is on the disk when this returns. ValueError if its cell has one."""
        if record.cell.key in self._records:
            raise ValueError(f"cell {record.cell.key!r} has a record already")
        self._write(record.to_json())
        self._records[record.cell.key] = record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _begin(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"{self.path} is being written by another run", hint="wait for it, or choose another --out"
            ) from None
        self._file.seek(0)
        raw = self._file.read()
        whole = raw.rfind(b"\n") + 1
        if whole:
            header, self._records = _read(self.path, raw[:whole])
            if differing := list(self.header.differences(header)):
                raise ConfigError(
                    f"{self.path} is of another run: it has {', '.join(differing)}", hint=ANOTHER
                )
            self.header = replace(self.header, alignment=header.alignment)  # of cells that are there
            self._file.truncate(whole)
        elif _line(self.header.to_json()).startswith(raw):
            self._file.truncate(0)
            self._write(self.header.to_json())
            sync_folder(self.path.parent)
        else:  # never truncate a file of unknown content
            raise ConfigError(f"{self.path} is not a run's records", hint=ANOTHER)

    def _write(self, value: Mapping[str, Any]) -> None:
        line = _line(value)
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._file.close()  # half a line may be there, which only the next run can drop
            raise


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"


def _read(path: Path, raw: bytes) -> tuple[Header, dict[str, CellRecord]]:
    number, records = 1, {}
    try:
        first, *lines = raw.split(b"\n")[:-1] or [b""]
        header = Header.from_json(strict_loads(first))
        for number, line in enumerate(lines, 2):  # noqa: B007  (the error names it)
            record = CellRecord.from_json(strict_loads(line))
            records[record.cell.key] = record
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} line {number} is not of a run's records: {error!r}", hint=ANOTHER
        ) from error
    return header, records
