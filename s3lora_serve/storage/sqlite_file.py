"""A small SQLite file of ours beside the state file: made for its owner alone, and errors that name it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from typing import TYPE_CHECKING

from s3lora_serve.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUSY_SECONDS = 5.0
_OWNER = "check the file, its folder and their owner"
_HINTS = {
    "SQLITE_NOTADB": "move it away, and a new one is made",
    "SQLITE_CORRUPT": "move it away, and a new one is made",
    "SQLITE_READONLY": _OWNER,
    "SQLITE_CANTOPEN": _OWNER,
    "SQLITE_PERM": _OWNER,
}


def make_file(path: Path) -> None:
    """An empty file, and its folders, unless it is there; what a link leads to is not made.

    Raises OSError, and StateError as ``check_file`` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    check_file(path)


def check_file(path: Path) -> None:
    """Raises OSError, and StateError for what is no file: who reads a pipe waits for its other end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise StateError(f"{path} is not a file", hint="move it away, and a new one is made")


def connect(uri: str) -> sqlite3.Connection:
    """A connection for any thread that begins its transactions by itself. Raises sqlite3.Error."""
    return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def check_kind(db: sqlite3.Connection, path: Path, application_id: int, version: int, what: str) -> None:
    """Raises StateError if the file is not one of ``what``, or of another schema version."""
    if db.execute("PRAGMA application_id").fetchone()[0] != application_id:
        raise StateError(f"{path} is not a file of {what}", hint="move it away")
    if (found := db.execute("PRAGMA user_version").fetchone()[0]) != version:
        raise StateError(
            f"{path} has schema {found}, and this release reads {version}",
            hint="move it away, or use the release that wrote it",
        )


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of the block's statements, or none of them."""
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back by itself after some failures
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's errors, and those of the file system, as StateError with the file's name."""
    try:
        yield
    except sqlite3.Error as error:
        name = str(getattr(error, "sqlite_errorname", "") or type(error).__name__)
        hint = next((hint for kind, hint in _HINTS.items() if name.startswith(kind)), "")
        raise StateError(f"{path}: {error} ({name})", hint=hint) from error
    except OSError as error:
        raise StateError(
            f"{path}: {error.strerror or error}", hint="check the folder and its owner"
        ) from error
