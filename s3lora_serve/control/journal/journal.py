"""Desired state and the journal of every decision, in one file that survives kill -9."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from dataclasses import astuple, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from s3lora_serve.control.journal.agreement import Tables
from s3lora_serve.control.journal.chain import (
    Broken,
    Head,
    chained,
    first_broken,
)
from s3lora_serve.control.journal.derived import told
from s3lora_serve.control.journal.rows import (
    ENTRY_COLUMNS,
    OPERATION_COLUMNS,
    PLANNER_COLUMNS,
    entry_of,
    entry_row,
    operation_json,
    operation_of,
    operation_row,
    planner_of,
    planner_row,
    planners_or_why,
)
from s3lora_serve.control.journal.state_file import (
    damage,
    fleet_of,
    open_for_reading,
    open_for_writing,
    snapshot,
    take_lock,
    translated,
)
from s3lora_serve.control.operation import Operation, Step
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import StateError
from s3lora_serve.storage.sqlite_file import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3lora_serve.control.journal.agreement import OperationRow
    from s3lora_serve.control.journal.entry import Entry, NewEntry
    from s3lora_serve.fleet.planner_record import PlannerRecord

_T = TypeVar("_T")

__all__ = ["Broken", "Head", "Journal"]

_ENTRY, _PLANNER, _OPERATION = (
    ", ".join(columns) for columns in (ENTRY_COLUMNS, PLANNER_COLUMNS, OPERATION_COLUMNS)
)
_ADD_ENTRY = f"INSERT INTO journal ({_ENTRY}) VALUES ({', '.join('?' * len(ENTRY_COLUMNS))})"
_PLANNERS = f"SELECT {_PLANNER} FROM planners ORDER BY name"
_PUT_PLANNER = f"REPLACE INTO planners ({_PLANNER}) VALUES ({', '.join('?' * len(PLANNER_COLUMNS))})"
_PUT_OPERATION = """INSERT INTO operations (id, key, fingerprint, step, started_at, body)
    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET step = excluded.step, body = excluded.body"""
_LATEST = f"""SELECT {_ENTRY} FROM journal
    WHERE seq IN (SELECT max(seq) FROM journal WHERE action = ? GROUP BY planner)"""
_NUMBERS = "SELECT seq FROM journal WHERE action = ? ORDER BY seq DESC"
_RUNNING = tuple(step.value for step in Step if not step.ended)
_CHUNK = 1000  # entries read at a time while the chain is checked, so that writers need not wait for it
_MOST = 2**63 - 1  # SQLite's largest integer


class Journal:
    """What each planner shall serve, every order, and an append-only account of every decision.

    Each ``write`` is one transaction and on the disk when it returns. May be called from any thread.
    """

    def __init__(self, path: Path, *, read_only: bool = False, engine: EngineKind = EngineKind.VLLM) -> None:
        """Open or create the file, and keep other servers off it until ``close`` or the end of the process.

        ``engine`` is what serves from it: one kind for the file's whole life. ``read_only`` takes no lock,
        creates nothing, whatever served, and works beside a running server. Raises StateError.
        """
        with translated(path):
            # Two names of one file are one file. Of links in a circle resolve() raises RuntimeError.
            self.path = Path(os.path.realpath(path))
        self._guard = threading.Lock()
        self._open, self._read_only = True, read_only
        self._last: Head | None = None
        self.announced = Head()  # the head that was given out last, beyond this file
        self._lock: sqlite3.Connection | None = None
        if read_only:
            self._db = open_for_reading(self.path)
            return
        self._lock = take_lock(self.path)
        try:
            self._db = open_for_writing(self.path, engine)
        except BaseException:
            self._lock.close()
            raise
        self._file = _identity(self.path)

    def write(
        self,
        *entries: NewEntry,
        planner: PlannerRecord | None = None,
        operation: Operation | None = None,
        remove: str | None = None,
        fingerprint: str = "",
    ) -> tuple[Entry, ...]:
        """Append the entries and put the records in place of the earlier ones, all or nothing, on the disk.

        ``remove`` is the name of a planner that shall be served no more. ``fingerprint`` stands for what an
        operation's order asked, and stays as it was at the operation's first write. Raises StateError; then
        nothing was written (after an error of the disk itself only reopening tells).
        """
        if self._read_only:
            raise StateError(f"{self.path} was opened for reading only", hint="only a server writes to it")
        with self._using(), transaction(self._db):
            row = None
            if planner is not None:
                self._db.execute(_PUT_PLANNER, planner_row(planner))
            if operation is not None:
                row = self._put(operation, fingerprint).digest
            if remove is not None:
                self._db.execute("DELETE FROM planners WHERE name = ?", (remove,))
            # The first entry tells what else was written, so that the chain covers it.
            also = told(planner, remove, row)
            first = (replace(each, details={**each.details, **also}) for each in entries[:1])
            written = self._append((*first, *entries[1:])) if entries else ()
        if written:
            self._last = Head(written[-1].seq, written[-1].hash)
        return written

    def _put(self, operation: Operation, fingerprint: str) -> OperationRow:
        key, step = operation.order.key, operation.step.value
        identity = (operation.id, key, fingerprint, step, operation.started_at)
        self._db.execute(_PUT_OPERATION, (*identity, operation_json(operation)))
        kept = self._db.execute(f"SELECT {_OPERATION} FROM operations WHERE id = ?", (operation.id,))
        return operation_row(kept.fetchone())

    def planners(self) -> dict[str, PlannerRecord]:
        """What each planner shall serve, by name."""
        rows = self._rows(_PLANNERS)
        return {record.name: record for record in self._read(planner_of, rows)}

    def planner_rows(self) -> dict[str, PlannerRecord | str]:
        """The same, but of a row that cannot be read it gives the reason why."""
        rows = self._rows(_PLANNERS)
        return planners_or_why(rows)

    def tables(self) -> Tables:
        """All that there is to compare with the entries, as it is at one moment."""
        with self._using(), snapshot(self._db):
            last, kept = self._span()
            planners = self._db.execute(_PLANNERS).fetchall()
            operations = self._db.execute(f"SELECT {_OPERATION} FROM operations").fetchall()
        rows = tuple(operation_row(row) for row in operations)
        return Tables(last, kept, planners_or_why(planners), rows)

    def operation(self, id: str) -> Operation | None:
        """The operation of that id."""
        return next(iter(self._operations("WHERE id = ?", id)), None)

    def operation_by_key(self, key: str) -> tuple[Operation, str] | None:
        """The operation that was ordered under an idempotency key, and the fingerprint of its order."""
        rows = self._rows("SELECT body, fingerprint FROM operations WHERE key = ?", key)
        return (self._read(operation_of, [rows[0][0]])[0], rows[0][1]) if rows else None

    def running(self) -> list[Operation]:
        """Operations that have not ended, oldest first. After a restart: those that were cut short."""
        marks = ", ".join("?" * len(_RUNNING))
        return self._operations(f"WHERE step IN ({marks}) ORDER BY started_at, rowid", *_RUNNING)

    def operations(self, limit: int = 50) -> list[Operation]:
        """The latest operations, newest first."""
        return self._operations("ORDER BY started_at DESC, rowid DESC LIMIT ?", _count(limit))

    def entries(
        self, planner: str | None = None, after: int = 0, limit: int = 100, newest_first: bool = False
    ) -> list[Entry]:
        """At most ``limit`` entries with numbers above ``after``, of one planner or of all."""
        which = "" if planner is None else "AND planner = ?"
        sql = f"SELECT {_ENTRY} FROM journal WHERE seq > ? {which} ORDER BY seq"
        values = (_count(after), *(() if planner is None else (planner,)), _count(limit))
        return self._read(entry_of, self._rows(f"{sql} {'DESC' if newest_first else 'ASC'} LIMIT ?", *values))

    def head(self) -> Head:
        """Number and hash of the last entry. A copy kept elsewhere can be given to ``verify``."""
        with self._using():
            return self._head()

    @property
    def last(self) -> Head:
        """The head as this process knows it, without asking the disk."""
        if self._last is None:
            self._last = self.head()
        return self._last

    @property
    def fleet(self) -> str | None:
        """The random id that the file was given when it was made, which its store carries too."""
        with self._using():
            return fleet_of(self._db)

    def damage(self) -> str | None:
        """What SQLite finds wrong with the file's pages; None if nothing. Does not read values."""
        with self._using():
            return damage(self._db)

    def replaced(self) -> bool:
        """Whether the file that is open for writing is not the one that is there any more."""
        return not self._read_only and _identity(self.path) != self._file

    def numbers(self, action: str) -> list[int]:
        """The numbers of the entries with this action, newest first."""
        return [seq for (seq,) in self._rows(_NUMBERS, action)]

    def latest(self, action: str) -> list[Entry]:
        """Of each planner the last entry with this action."""
        return self._read(entry_of, self._rows(_LATEST, action))

    def digests(self) -> set[str]:
        """Every revision that an entry names."""
        sql = "SELECT from_digest FROM journal UNION SELECT to_digest FROM journal"
        return {digest for (digest,) in self._rows(sql) if isinstance(digest, str)}

    def backup(self, path: Path, progress: Callable[[int, int], None] = lambda done, all_: None) -> None:
        """Copy the whole file as it is at one moment, also while it is written. Raises StateError."""

        def tell(_: int, remaining: int, total: int) -> None:
            progress(total - remaining, total)

        with self._using(), contextlib.closing(sqlite3.connect(path)) as copy:
            with snapshot(self._db):
                self._head()  # the first query decides on the moment
                self._db.backup(copy, pages=256, progress=tell, sleep=0.0)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file: nothing beside it is to be copied
            path.chmod(0o600)

    def verify(self, noted: Head | None = None) -> Broken | None:
        """Check every entry and the whole chain; None if all holds. Does not block writers.

        Without ``noted``, a head that was kept elsewhere, this cannot notice a chain that was computed anew
        up to its end together with the head, or an older copy of the whole file in its place.
        """
        with self._using(), snapshot(self._db):
            last, kept = self._span()
        if kept is None:
            return Broken(last, "the head of the journal was deleted")
        # The head may move on while entries are read; those up to this one cannot change any more.
        return first_broken(self.between(-_MOST, last), kept, noted)

    def close(self) -> None:
        """Close the file. Does nothing the second time."""
        with self._guard:
            self._open = False
            self._db.close()
            if self._lock is not None:
                self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, new: tuple[NewEntry, ...]) -> tuple[Entry, ...]:
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        head = self._head()  # not the last row: entries that were cut off stay missing
        written: list[Entry] = []
        for each in new:
            entry = chained(each, head, at)
            self._db.execute(_ADD_ENTRY, entry_row(entry))
            head = Head(entry.seq, entry.hash)
            written.append(entry)
        self._db.execute("UPDATE head SET seq = ?, hash = ?", astuple(head))
        return tuple(written)

    def _head(self) -> Head:
        if (kept := self._kept()) is None:
            why = f"{self.path}: the head of the journal was deleted"
            raise StateError(why, hint="restore the file from a backup")
        return kept

    def _span(self) -> tuple[int, Head | None]:
        return self._db.execute("SELECT max(seq) FROM journal").fetchone()[0] or 0, self._kept()

    def _kept(self) -> Head | None:
        row = self._db.execute("SELECT seq, hash FROM head").fetchone()
        # One that is no number and text was written by something else: it is as good as none.
        return Head(*row) if row and isinstance(row[0], int) and isinstance(row[1], str) else None

    def between(self, after: int, last: int) -> Iterator[Entry | Broken]:
        """Every row with such a number, also those that should not be there, in chunks."""
        sql = f"SELECT {_ENTRY} FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
        while rows := self._rows(sql, after, last, _CHUNK):
            for row in rows:
                try:
                    yield entry_of(row)
                except ValueError as error:
                    yield Broken(row[0], str(error))
            after = rows[-1][0]

    def _operations(self, which: str, *values: object) -> list[Operation]:
        rows = self._rows(f"SELECT body FROM operations {which}", *values)
        return self._read(operation_of, [body for (body,) in rows])

    def _read(self, convert: Callable[[Any], _T], rows: Iterable[Any]) -> list[_T]:
        try:
            return [convert(row) for row in rows]
        except ValueError as error:
            hint = "something other than the server changed it: restore the file from a backup"
            raise StateError(f"{self.path}: {error}", hint=hint) from error

    def _rows(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with self._using():
            return self._db.execute(sql, values).fetchall()

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        with self._guard, translated(self.path):
            if not self._open:
                raise StateError(f"{self.path} was closed", hint="the server is stopping")
            yield


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _count(value: int) -> int:
    return min(max(value, 0), _MOST)
