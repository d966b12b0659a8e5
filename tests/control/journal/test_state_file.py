"""The state file serves one server at a time, is private, and one that is not ours is left alone."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from journal_factory import ROOT, decide

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import StateError

VLLM, FAKE = EngineKind


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "state.db"


@pytest.fixture
def journal(path):
    with Journal(path) as journal:
        yield journal


@pytest.mark.process
def test_a_second_server_on_the_file_is_refused(journal, path):
    """Under any name of the file, from this process or from another one, until it is closed."""
    link = path.with_name("link.db")
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(StateError, match=r"state\.db is in use by another server; stop that one"):
            Journal(name)
    refused = subprocess.run(
        [sys.executable, "-c", f"from s3lora_serve.control.journal.journal import *; import pathlib\n"
         f"Journal(pathlib.Path({str(path)!r}))"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "is in use by another server" in refused.stderr
    journal.write(NewEntry("still", "writes"))
    journal.close()
    Journal(link).close()


@pytest.mark.process
def test_the_lock_dies_with_its_process_though_a_child_lives(path):
    """After kill -9 the next server starts at once, even while a process that the server forked lingers."""
    source = f"""
import os, pathlib, signal, time
from s3lora_serve.control.journal.journal import Journal
journal = Journal(pathlib.Path({str(path)!r}))
if os.fork() == 0:
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE) as server:
        child = int(server.stdout.readline())
        try:
            with pytest.raises(StateError, match="in use"):
                Journal(path)
            server.kill()
            server.wait()
            os.kill(child, 0)  # it does live
            Journal(path).close()
        finally:
            server.kill()
            os.kill(child, 9)


def test_the_file_and_all_beside_it_are_private(journal, path):
    """Reasons, sources and actors are readable for the server's user only."""
    journal.write(NewEntry("a", "b"))
    assert {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()} == dict.fromkeys(
        ("state.db", "state.db-wal", "state.db-shm", "state.db.lock"), "0o600"
    )


def _foreign_database(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE planners (x)")
    db.close()


def _set(pragma):
    def change(path):
        Journal(path).close()
        db = sqlite3.connect(path)
        db.execute(f"PRAGMA {pragma}")
        db.close()

    return change


def _half_overwritten(path):
    with Journal(path) as journal:
        decide(journal, 1)
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xa5" * (len(raw) - 4096)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"planners: {}\n" * 100), "is damaged or no state file.*keep a copy"),
        (_half_overwritten, "is damaged or no state file.*keep a copy"),
        (_foreign_database, "database of another program.*another file"),
        (_set("user_version = 2"), "schema version 2; this release knows up to 1.*the release that wrote it"),
        (_set("user_version = -1"), "schema version -1"),
        (lambda path: path.mkdir(), "unable to open.*check the file"),
        (lambda path: path.symlink_to(path), "unable to open.*check the file"),
    ],
    ids=["no database", "damaged", "foreign", "newer", "nonsense", "folder", "circle"],
)
def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path, spoil, says):
    """The error names the file and the next step; not one byte of it changes, and the lock is given back."""
    path = tmp_path / "state.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    for _ in range(2):
        with pytest.raises(StateError, match=rf"(?s){path}.*{says}"):
            Journal(path)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_reading_creates_nothing(tmp_path):
    """Who only reads is told that there is no state, and makes no file of it."""
    with pytest.raises(StateError, match="there is no state file"):
        Journal(tmp_path / "state.db", read_only=True)
    (tmp_path / "empty.db").touch()
    with pytest.raises(StateError, match="holds no state yet"):
        Journal(tmp_path / "empty.db", read_only=True)
    assert [file.name for file in tmp_path.iterdir()] == ["empty.db"]


def test_an_unwritable_place_is_an_error_that_names_it():
    """Without write access neither server nor reader starts, and the message says whose access is missing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "state.db")
        Journal(path).close()
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may write anywhere
        try:
            for use in (path, Path(folder, "new", "state.db")):
                with pytest.raises(StateError, match=rf"{folder}.*(denied|readonly|unable).*(owner|mode)"):
                    Journal(use)
            with pytest.raises(StateError, match=f"{path} cannot be read by this user.*server's user"):
                Journal(path, read_only=True)
        finally:
            if root:
                os.seteuid(0)
            Path(folder).chmod(0o755)


@pytest.mark.parametrize(("first", "second"), [(FAKE, VLLM), (VLLM, FAKE)])
def test_a_state_of_another_kind_of_engine_is_refused_and_left_alone(path, first, second):
    """The error names the file, both kinds and what to do; its own kind can go on, and both can read."""
    with Journal(path, engine=first) as journal:
        decide(journal, 1)
    before = path.read_bytes()
    refused = f"{path} was used with engine {first}, and this server has engine {second}.*state.path"
    for _ in range(2):
        with pytest.raises(StateError, match=refused):
            Journal(path, engine=second)
    assert path.read_bytes() == before
    with Journal(path, engine=first) as journal, Journal(path, read_only=True) as reader:
        assert journal.entries() == reader.entries() != []


def test_a_state_from_before_the_mark_was_used_by_vllm(path):
    """Databases of earlier releases have the id that means vLLM now."""
    Journal(path).close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA application_id").fetchone() == (0x53334C6F,)
    db.close()
    with pytest.raises(StateError, match="was used with engine vllm"):
        Journal(path, engine=FAKE)
