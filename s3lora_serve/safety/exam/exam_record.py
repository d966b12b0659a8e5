"""exam.db: what exams found, by the digest of all that a verdict hangs on, and tries by source."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Self

from s3lora_serve.errors import StateError
from s3lora_serve.safety.exam.exam_result import ExamResult
from s3lora_serve.storage.canonical_json import canonical_bytes, canonical_digest, strict_loads
from s3lora_serve.storage.sqlite_file import check_kind, connect, make_file, transaction, translated

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from s3lora_serve.config import ExamConfig

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
APPLICATION_ID = 0x53334C45  # "S3LE": not the state file, nor another program's
MOST_RESULTS, MOST_TRIES = 2_000, 100_000  # rows: some 30 MB; the oldest go first

_SCHEMA = (  # the column `revision` has what of it is served: `Lineage.served`
    "CREATE TABLE results (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE,"
    " revision TEXT NOT NULL, result BLOB NOT NULL)",
    "CREATE INDEX results_by_revision ON results (revision, id)",
    "CREATE TABLE tries (id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, at REAL NOT NULL)",
    "CREATE INDEX tries_by_source ON tries (source)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
# What is asked, and the margins that it is decided by; not what follows from a verdict, nor how fast.
_DECIDES = (
    "against",
    "max_attack_rise",
    "tolerated_rise",
    "confidence",
    "max_utility_loss",
    "answer_tokens",
    "plan_form",
)


def exam_key(
    served: str, base_key: str, engine_version: str, questions_digest: str, settings: ExamConfig
) -> str:
    """The digest of all that a verdict hangs on: what it is kept under. ``served`` is ``Lineage.served``."""
    decides = {name: getattr(settings, name) for name in _DECIDES}
    return canonical_digest([served, base_key, engine_version, questions_digest, decides])


def stale(result: ExamResult, now_key: str) -> bool:
    """Whether its questions, settings, base or engine are not those of now."""
    return result.key != now_key


class ExamRecord:
    """Opened by one server. May be used in any thread; each call takes milliseconds, and waits for the disk.

    A file that cannot be used costs what it held, never a start or an exam: ``problem`` says what is wrong
    with it, until it can be written again. It is logged once and left as it is, and what is kept meanwhile
    is kept in memory.
    """

    def __init__(self, path: Path) -> None:
        """Open the file if there is one; the first result makes it, for its owner alone."""
        self.path = path
        self.problem: str | None = None
        self._lock = threading.Lock()
        self._memory = _new("file::memory:")
        self._file: sqlite3.Connection | None = None
        if os.path.lexists(path):
            self._open()

    def find(self, key: str) -> ExamResult | None:
        """The result that is kept under this key; None if there is none, or none that can be read."""
        return self._first("SELECT result FROM results WHERE key = ?", key)

    def latest(self, served: str) -> ExamResult | None:
        """The last result about these files (``Lineage.served``); None as in ``find``."""
        return self._first("SELECT result FROM results WHERE revision = ? ORDER BY id DESC LIMIT 1", served)

    def tries(self, source: str) -> int:
        """How many exams of this source were counted."""
        found = self._rows("SELECT count(*) FROM tries WHERE source = ?", source)
        return sum(int(count) for (count,) in found)

    def keep(self, result: ExamResult, served: str, source: str) -> None:
        """Count a try of the source, and keep the result in place of one with its key.

        One that is not complete, as after a time-out, is neither: it told nothing, and is asked again.
        """
        if not result.complete:
            return
        results = [(result.key, served, canonical_bytes(result.to_json()))]
        with self._lock:
            _keep(self._memory, [(source, time.time())], results)
            if self._file is None:  # none yet, or none that could be used: it may have been moved away
                self._open()
            if self._file is None:
                return
            try:
                with translated(self.path):  # also what waits since it last failed
                    tries = self._memory.execute("SELECT source, at FROM tries ORDER BY id").fetchall()
                    waiting = "SELECT key, revision, result FROM results ORDER BY id"
                    _keep(self._file, tries, self._memory.execute(waiting).fetchall())
            except StateError as error:
                self._failed(error)
            else:
                self.problem = None
                self._memory.execute("DELETE FROM results")
                self._memory.execute("DELETE FROM tries")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            for db in (self._file, self._memory):
                if db is not None:
                    db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first(self, sql: str, value: str) -> ExamResult | None:
        for (written,) in self._rows(sql, value):
            try:
                return ExamResult.from_json(strict_loads(bytes(written)))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.warning("%s: a result cannot be read, and its exam is taken anew: %r", self.path, error)
        return None

    def _rows(self, sql: str, value: str) -> list[tuple[Any, ...]]:
        """Those in memory, which are the newer ones, then those of the file, if it works."""
        with self._lock:
            found = self._memory.execute(sql, (value,)).fetchall()
            if self._file is not None:
                try:
                    with translated(self.path):
                        found += self._file.execute(sql, (value,)).fetchall()
                except StateError as error:
                    self._failed(error)
        return found

    def _open(self) -> None:
        try:
            self._file = _opened(self.path)
        except StateError as error:
            self._failed(error)

    def _failed(self, error: StateError) -> None:
        if self.problem is None:
            log.error("results of exams are kept in memory for as long as this lasts: %s", error)
        self.problem = str(error)


def _keep(db: sqlite3.Connection, tries: list[tuple[Any, ...]], results: list[tuple[Any, ...]]) -> None:
    with transaction(db):
        db.executemany("INSERT INTO tries (source, at) VALUES (?, ?)", tries)
        db.execute("DELETE FROM tries WHERE id <= (SELECT max(id) FROM tries) - ?", (MOST_TRIES,))
        db.executemany("DELETE FROM results WHERE key = ?", [(key,) for key, *_ in results])
        db.executemany("INSERT INTO results (key, revision, result) VALUES (?, ?, ?)", results)
        db.execute("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", (MOST_RESULTS,))


def _new(uri: str) -> sqlite3.Connection:
    """A connection, with our tables if there were none."""
    db = connect(uri)
    try:
        if db.execute("PRAGMA schema_version").fetchone()[0] == 0:
            with transaction(db):
                for statement in _SCHEMA:
                    db.execute(statement)
    except BaseException:
        db.close()
        raise
    return db


def _opened(path: Path) -> sqlite3.Connection:
    """The file's connection. Raises StateError for a foreign or damaged file, or one that cannot be made."""
    with translated(path):
        make_file(path)
        db = _new(f"{path.resolve().as_uri()}?mode=rw")
        try:
            check_kind(db, path, APPLICATION_ID, SCHEMA_VERSION, "exams' results")
            db.execute("PRAGMA journal_mode = WAL")
        except BaseException:
            db.close()
            raise
        return db
