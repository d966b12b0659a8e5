"""guard.db: records of verdicts in one SQLite file, bounded in age and number."""

from __future__ import annotations

import time
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any, Self

from s3lora_serve.errors import StateError
from s3lora_serve.safety.guard.verdicts.verdict_record import VerdictRecord
from s3lora_serve.storage.sqlite_file import (
    check_file,
    check_kind,
    connect,
    make_file,
    transaction,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from s3lora_serve.safety.guard.verdicts.verdict_record import VerdictCount

SCHEMA_VERSION = 1
APPLICATION_ID = 0x53334C47  # "S3LG": not the state file, nor another program's
MOST_RECORDS, MOST_COUNTS = 100_000, 100_000  # rows: some 30 MB; the oldest go first
HOUR = 3600

_COLUMNS = tuple(each.name for each in fields(VerdictRecord))
_GROUP = "planner, caller, by, finding"
_SCHEMA = (
    "CREATE TABLE verdicts (id INTEGER PRIMARY KEY AUTOINCREMENT,"
    f" {', '.join(f'{column} NOT NULL' for column in _COLUMNS)})",
    "CREATE INDEX verdicts_by_time ON verdicts (at)",
    "CREATE TABLE counts (hour INTEGER NOT NULL, planner TEXT NOT NULL, caller TEXT NOT NULL,"
    " by TEXT NOT NULL, finding TEXT NOT NULL, requests INTEGER NOT NULL,"
    f" PRIMARY KEY (hour, {_GROUP}))",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_ADD = f"INSERT INTO verdicts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_COUNT = (
    "INSERT INTO counts VALUES (?, ?, ?, ?, ?, 1)"
    f" ON CONFLICT (hour, {_GROUP}) DO UPDATE SET requests = requests + 1"
)


class VerdictFile:
    """Opened by one server, and by any number of readers beside it. For one thread at a time."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file, or make it, for its owner alone. Raises StateError for a foreign or damaged one."""
        self.path = path
        with translated(path):
            if read_only:
                if not path.exists():
                    raise StateError(
                        f"there is no file {path}", hint="a server makes it once it guards a planner"
                    )
                check_file(path)
            else:
                make_file(path)
            self._db = connect(f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rw'}")
            try:
                if not read_only and self._db.execute("PRAGMA schema_version").fetchone()[0] == 0:
                    with transaction(self._db):
                        for statement in _SCHEMA:
                            self._db.execute(statement)
                check_kind(self._db, path, APPLICATION_ID, SCHEMA_VERSION, "guards' verdicts")
            except BaseException:
                self._db.close()
                raise

    def add(self, counts: Iterable[VerdictCount], records: Iterable[VerdictRecord]) -> None:
        """Write all of them, or none. Raises StateError."""
        with translated(self.path), transaction(self._db):
            self._db.executemany(_ADD, [astuple(record) for record in records])
            self._db.executemany(
                _COUNT, [(int(c.at // HOUR) * HOUR, c.planner, c.caller, c.by, c.finding) for c in counts]
            )

    def forget(self, before: float) -> None:
        """Delete what is older, and the oldest rows above the most that are kept. Raises StateError."""
        with translated(self.path), transaction(self._db):
            self._db.execute("DELETE FROM verdicts WHERE at < ?", (before,))
            self._db.execute(
                "DELETE FROM verdicts WHERE id <= (SELECT max(id) FROM verdicts) - ?", (MOST_RECORDS,)
            )
            self._db.execute("DELETE FROM counts WHERE hour < ?", (before - HOUR,))
            self._db.execute(
                "DELETE FROM counts WHERE rowid IN"
                " (SELECT rowid FROM counts ORDER BY hour DESC LIMIT -1 OFFSET ?)",
                (MOST_COUNTS,),
            )

    def records(
        self, since: float = 0.0, until: float = float(2**40), planner: str | None = None
    ) -> list[VerdictRecord]:
        """What was not plainly allowed in that time, oldest first. Raises StateError."""
        sql = f"SELECT {', '.join(_COLUMNS)} FROM verdicts WHERE at >= ? AND at < ?"
        rows = self._rows(sql, since, until, planner, "ORDER BY id")
        return [VerdictRecord(*row) for row in rows]

    def counts(
        self, since: float = 0.0, until: float = float(2**40), planner: str | None = None
    ) -> list[tuple[str, str, str, str, int]]:
        """Planner, caller, judge, finding and how many requests, of every hour that the time touches."""
        sql = f"SELECT {_GROUP}, sum(requests) FROM counts WHERE hour > ? AND hour < ?"
        group = f"GROUP BY {_GROUP} ORDER BY {_GROUP}"
        return self._rows(sql, since - HOUR, until, planner, group)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(
        self, sql: str, since: float, until: float, planner: str | None, rest: str
    ) -> list[tuple[Any, ...]]:
        which, values = ("", ()) if planner is None else ("AND planner = ?", (planner,))
        with translated(self.path):
            return self._db.execute(f"{sql} {which} {rest}", (since, until, *values)).fetchall()


def oldest(days: float) -> float:
    """The time from which on records are kept."""
    return time.time() - days * 86_400
