"""Whatever ends the process, at whatever moment, acknowledged writes are there and half ones are not."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from journal_factory import ROOT, decide, decided, writer

from s3lora_serve.control.journal.journal import Journal

pytestmark = pytest.mark.process

STATEMENTS = 2 * 26 + 40  # more than opening and two decisions take; the last runs end by themselves


def acknowledged(server):
    """The last decision that the process said it had written."""
    lines = [line for line in server.stdout.read().split(b"\n")[:-1] if line != b"open"]
    return int(lines[-1]) if lines else 0


def test_killed_at_random_moments_again_and_again(tmp_path):
    """Server after server is killed while it writes; each next one goes on where the last one stood."""
    path, moments, n = tmp_path / "state.db", random.Random(3), 0
    for _ in range(20):
        with writer(path) as server:
            # Not after a time alone: a slow machine would have written nothing by then.
            heard = [server.stdout.readline() for _ in range(1 + moments.randrange(4))]
            time.sleep(moments.uniform(0, 0.005))
            server.kill()
            said = max(acknowledged(server), n, *(int(line) for line in heard if line != b"open\n"))
        assert server.returncode == -signal.SIGKILL
        with Journal(path) as journal:
            n = decided(journal)
        assert n in (said, said + 1), "a decision may be on the disk before its process could say so"
    assert n > 20, "most servers were killed before they wrote, so that little was tested"


def test_killed_before_any_statement(tmp_path):
    """From the creation of the file to the second decision: after each statement that SQLite was given."""
    ends = set()
    for kill_at in range(1, STATEMENTS, 3):
        path = tmp_path / str(kill_at) / "state.db"
        with writer(path, str(kill_at), "2") as server:
            said = acknowledged(server)
        ends.add(server.returncode)
        with Journal(path) as journal:
            n = decided(journal)
            assert n in (said, said + 1)
            decide(journal, n + 1)
            assert decided(journal) == n + 1
    assert ends == {-signal.SIGKILL, 0}, "the range must reach from the first statement to beyond the last"


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """The files of a server that was killed after five decisions, and where in its log each of them ended."""
    folder = tmp_path_factory.mktemp("crashed")
    ends = []
    with Journal(folder / "live.db") as journal:
        for n in range(1, 6):
            decide(journal, n)
            ends.append((folder / "live.db-wal").stat().st_size)
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"live.db{suffix}", folder / f"state.db{suffix}")
    return folder, ends


@pytest.mark.parametrize("part", range(41))
def test_a_torn_log_gives_a_prefix_of_the_decisions(crashed, tmp_path, part):
    """A power cut may leave any length of the log: what was synced whole is there, nothing after it is."""
    folder, ends = crashed
    for file in ("state.db", "state.db-wal"):
        shutil.copy(folder / file, tmp_path / file)
    length = ends[0] + (ends[-1] - ends[0]) * part // 40
    with (tmp_path / "state.db-wal").open("r+b") as log:
        log.truncate(length)
    with Journal(tmp_path / "state.db") as journal:
        assert decided(journal) == sum(end <= length for end in ends)


@pytest.mark.parametrize("part", range(9))
def test_garbage_at_the_end_of_the_log_is_ignored(crashed, tmp_path, part):
    """Blocks that were never written hold whatever the disk held before."""
    folder, ends = crashed
    for file in ("state.db", "state.db-wal"):
        shutil.copy(folder / file, tmp_path / file)
    start = ends[2] + (ends[3] - ends[2]) * part // 8
    with (tmp_path / "state.db-wal").open("r+b") as log:
        log.seek(start)
        log.write(random.Random(part).randbytes(ends[-1] - start))
    with Journal(tmp_path / "state.db") as journal:
        assert decided(journal) == (4 if part == 8 else 3)


def test_a_full_disk_is_an_error_after_which_nothing_is_half_written(tmp_path):
    """The write that finds no room is refused whole; reading goes on, and writing too once there is room."""
    source = f"""
import pathlib, resource
from journal_factory import *
from s3lora_serve.errors import StateError
journal = Journal(pathlib.Path({str(tmp_path / "state.db")!r}))
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for room in (200_000, 230_001, 300_002):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    n, error = decided(journal), None
    while error is None:
        try:
            decide(journal, n + 1)
            n += 1
        except StateError as refused:
            error = refused
    assert decided(journal) == n > 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    decide(journal, n + 1)
    assert decided(journal) == n + 1
print(n + 1, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=ROOT / "tests" / "helpers", env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    n, message = done.stdout.split(" ", 1)
    assert "state.db" in message
    assert "disk" in message
    with Journal(tmp_path / "state.db") as journal:
        assert decided(journal) == int(n)


def test_each_write_waits_for_the_disk(tmp_path):
    """A power cut takes nothing that was acknowledged: WAL, and a sync at each commit."""
    with Journal(tmp_path / "state.db") as journal:
        settings = {
            name: journal._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2}  # 2 is FULL
