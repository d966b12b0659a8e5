"""The state file: one SQLite database, opened by one server at a time, and by any number of readers."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import sqlite3
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import StateError
from s3lora_serve.storage.sqlite_file import transaction

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
# Tells our database from another program's, and which kind of engine it was used with: "S3Lo", "S3Lf".
APPLICATION_IDS = {EngineKind.VLLM: 0x53334C6F, EngineKind.FAKE: 0x53334C66}
BUSY_SECONDS = 5.0  # wait so long for another program's transaction, such as a shell's

_FORBIDDEN = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")

_SCHEMA = f"""
CREATE TABLE planners (
    name TEXT PRIMARY KEY, active TEXT NOT NULL, previous TEXT, candidate TEXT, rollout TEXT,
    declared TEXT NOT NULL, generation INTEGER NOT NULL
);
CREATE TABLE operations (
    id TEXT PRIMARY KEY, key TEXT UNIQUE, fingerprint TEXT NOT NULL, step TEXT NOT NULL,
    started_at REAL NOT NULL, body TEXT NOT NULL
);
CREATE INDEX operations_by_step ON operations (step);
CREATE INDEX operations_by_start ON operations (started_at);
CREATE TABLE journal (
    seq INTEGER PRIMARY KEY, at TEXT NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL, planner TEXT,
    operation TEXT, from_digest TEXT, to_digest TEXT, reason TEXT NOT NULL, details TEXT NOT NULL,
    previous_hash TEXT NOT NULL, hash TEXT NOT NULL
);
CREATE INDEX journal_by_planner ON journal (planner, seq);
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash TEXT NOT NULL);
INSERT INTO head VALUES (1, 0, '{"0" * 64}');
CREATE TRIGGER journal_keeps_entries BEFORE UPDATE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_keeps_all BEFORE DELETE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER journal_replaces_none BEFORE INSERT ON journal
    WHEN NEW.seq <= (SELECT max(seq) FROM journal)
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER head_goes_forward BEFORE UPDATE ON head WHEN NEW.seq <= OLD.seq
    BEGIN SELECT RAISE(ABORT, 'the head of the journal only goes forward'); END;
CREATE TRIGGER head_stays BEFORE DELETE ON head
    BEGIN SELECT RAISE(ABORT, 'the head of the journal only goes forward'); END;
PRAGMA user_version = {SCHEMA_VERSION};
"""
# Added to files of releases that had none: they read and write such a file as before.
_FLEET = "CREATE TABLE IF NOT EXISTS fleet (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL)"


def take_lock(path: Path) -> sqlite3.Connection:
    """Keep other servers off the state file for as long as the connection that is returned is open.

    An exclusive SQLite transaction on an empty file beside it. Why not flock: a forked child would inherit
    that and hold it after the server was killed. SQLite's are POSIX locks, which die with their process.
    """
    beside = path.with_name(path.name + ".lock")
    with translated(beside):
        path.parent.mkdir(parents=True, exist_ok=True)
        _create_private(beside)
        lock = _connect(beside.as_uri() + "?mode=rw", seconds=0)
        try:
            lock.execute("PRAGMA journal_mode = MEMORY")  # nothing is ever written: leave no file for it
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if _name(error).startswith("SQLITE_BUSY"):
                raise StateError(
                    f"{path} is in use by another server",
                    hint=f"stop that one (`fuser {beside}` names its process), or set another state.path",
                ) from None
            raise
    return lock


def open_for_writing(path: Path, engine: EngineKind) -> sqlite3.Connection:
    """The database, created if there is none. Every commit is on the disk before it returns.

    Raises StateError for a file that is damaged, foreign, of a newer release or used with another kind of
    engine, and leaves it as it is.
    """
    with translated(path):
        _create_private(path)
        db = _connect(path.as_uri() + "?mode=rw", seconds=BUSY_SECONDS)
        try:
            new = (used_with := _used_with(db, path)) is None
            if used_with not in (None, engine):
                raise _of_another(path, used_with, engine)
            if (mode := db.execute("PRAGMA journal_mode = WAL").fetchone()[0]) != "wal":
                raise StateError(
                    f"{path} cannot be used: its file system gives journal mode {mode}, not WAL",
                    hint="set state.path to a local disk",
                )
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA fullfsync = ON")  # on macOS fsync alone leaves data in the drive's cache
            if new:
                with transaction(db):
                    db.execute(f"PRAGMA application_id = {APPLICATION_IDS[engine]}")
                    for statement in _statements(_SCHEMA):
                        db.execute(statement)
            elif (found := damage(db)) is not None:
                raise _damaged(path, found)
            with transaction(db):
                db.execute(_FLEET)
                db.execute("INSERT OR IGNORE INTO fleet VALUES (1, ?)", (secrets.token_hex(16),))
        except BaseException:
            db.close()
            raise
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """The database as it is, also beside a server that writes. Raises StateError if there is none."""
    with translated(path):
        if not path.exists():
            raise StateError(f"there is no state file {path}", hint="a server makes it at its first start")
        db = _connect(path.as_uri() + "?mode=ro", seconds=BUSY_SECONDS)
        try:
            if _used_with(db, path) is None:
                raise StateError(f"{path} holds no state yet", hint="start the server first")
        except BaseException as error:
            db.close()
            if isinstance(error, sqlite3.Error) and _name(error).startswith(_FORBIDDEN):
                raise StateError(
                    f"{path} cannot be read by this user: that takes its -wal and -shm beside it ({error})",
                    hint="ask as the server's user, or read a backup in a folder that you can write to",
                ) from error
            raise
    return db


def damage(db: sqlite3.Connection) -> str | None:
    """What SQLite itself finds wrong with the pages of the file; None if nothing."""
    found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    return None if found == "ok" else " ".join(found.split())


def fleet_of(db: sqlite3.Connection) -> str | None:
    """The random id that the file was given; None for one of a release that gave none."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'fleet'").fetchone():
        return None
    row = db.execute("SELECT id FROM fleet").fetchone()
    return None if row is None else str(row[0])


@contextlib.contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block's queries see the database at one moment."""
    try:
        db.execute("BEGIN")
        yield
    finally:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors as StateError, with the file and the next step."""
    try:
        yield
    except sqlite3.Error as error:
        name = _name(error)
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise _damaged(path, str(error)) from error
        raise StateError(f"{path}: {error} ({name})", hint=_next_step(name)) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StateError(f"{path}: {reason}", hint="check the folder, its owner and its mode") from error


def _create_private(path: Path) -> None:
    with contextlib.suppress(FileExistsError):  # reasons and sources are private
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _connect(uri: str, *, seconds: float) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, timeout=seconds, isolation_level=None, check_same_thread=False)
    # Bytes that are no text must reach the check of the chain, which names the entry they are in.
    db.text_factory = functools.partial(str, encoding="utf-8", errors="surrogateescape")
    return db


def _used_with(db: sqlite3.Connection, path: Path) -> EngineKind | None:
    """The kind of engine that the database was made for, None while it is empty. Raises StateError."""
    application, version = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    objects: int = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if (application, version, objects) == (0, 0, 0):
        return None
    kind = next((kind for kind, known in APPLICATION_IDS.items() if known == application), None)
    if kind is None:
        raise StateError(f"{path} is a database of another program", hint="set state.path to another file")
    if not 1 <= version <= SCHEMA_VERSION:
        raise StateError(
            f"{path} has schema version {version}; this release knows up to {SCHEMA_VERSION}",
            hint="start the release that wrote it, or a later one",
        )
    return kind


def _of_another(path: Path, used_with: EngineKind | None, engine: EngineKind) -> StateError:
    return StateError(
        f"{path} was used with engine {used_with}, and this server has engine {engine}",
        hint="set state.path to another file, or start the server with the engine that used this one",
    )


def _statements(script: str) -> Iterator[str]:
    """One statement after the other: ``executescript`` would commit before it begins."""
    statement = ""
    for line in script.strip().splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _name(error: sqlite3.Error) -> str:
    name: Any = getattr(error, "sqlite_errorname", None)  # absent on errors that the module itself raises
    return str(name or type(error).__name__)


def _damaged(path: Path, found: str) -> StateError:
    return StateError(
        f"{path} is damaged or no state file: {found}",
        hint="stop the server and keep a copy; restore a backup, "
        "or move it and its -wal away to begin again from planners.yaml",
    )


def _next_step(name: str) -> str:
    match name:
        case "SQLITE_FULL":
            return "the disk is full: make room and give the order again"
        case _ if name.startswith(_FORBIDDEN):
            return (
                "check the file, its folder, their owner and mode, and that the disk is mounted for writing"
            )
        case _ if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return "another program holds a transaction on it: end that one and give the order again"
        case _ if name.startswith("SQLITE_IOERR"):
            return "the disk failed or is full: look at the system's log, then restart the server"
    return "the audit says what is wrong with it"
