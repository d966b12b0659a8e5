"""The log of verdicts: nothing waits for it, it stays small, and a full disk costs records alone."""

from __future__ import annotations

import logging
import os
import pathlib
import sqlite3
import stat
import time
from dataclasses import replace

import pytest
from judged import judged, refused

from s3lora_serve.errors import StateError
from s3lora_serve.safety.guard.ruling import Found, Ruling
from s3lora_serve.safety.guard.verdicts import verdict_file, verdict_log
from s3lora_serve.safety.guard.verdicts.verdict_file import VerdictFile
from s3lora_serve.safety.guard.verdicts.verdict_log import VerdictLog
from s3lora_serve.safety.guard.verdicts.verdict_record import records_of
from s3lora_serve.safety.guard.verdicts.verdict_report import VerdictReport, verdict_report

DAY = 86_400


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "guard.db"


def test_records_and_counts_are_there_afterwards(path):
    """What was added is in the file when the log is closed, and beside a running one once it has settled."""
    with VerdictLog(path, 30) as log:
        for _ in range(3):
            log.add("p", judged(refused()))
            log.add("p", judged())
        log.add("q", judged(refused("endpoint", "evidence"), task="other", action="observe"))
        assert log.settled()
        beside = verdict_report(path)
        log.add("q", judged(Ruling(Found.FAILED, "base", why="late"), fail="open"))
    whole = verdict_report(path)
    assert len(whole.records) == len(beside.records) + 1 == 5
    assert [
        (each.planner, each.by, each.asked, each.allowed, each.refused, each.failed) for each in whole.counts
    ] == [
        ("p", "base", 6, 3, 3, 0),
        ("q", "base", 1, 0, 0, 1),
        ("q", "endpoint", 1, 0, 1, 0),
    ]
    first = whole.groups[0]
    assert (first.planner, first.part, first.done, first.requests, first.distinct) == (
        "p",
        "task",
        "withheld",
        3,
        1,
    )
    assert [each.done for each in whole.records] == ["open", "served", "withheld", "withheld", "withheld"]
    assert log.lost == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_report_is_of_a_planner_and_a_time(path):
    """Records outside are left out; counts are of each hour that the time touches; the latest come first."""
    with VerdictFile(path) as file:
        for hour in range(5):
            file.add(*records_of("p" if hour % 2 else "q", judged(refused()), 7200.0 + hour * 3600 + 60))
    found = verdict_report(path, since=10_800.0, until=18_000.0)
    assert [each.at for each in found.records] == [14_460.0, 10_860.0]
    assert {each.planner: each.refused for each in found.counts} == {"p": 1, "q": 1}
    assert {each.planner for each in verdict_report(path, planner="p").groups} == {"p"}
    assert len(verdict_report(path, limit=2).records) == 2
    with pytest.raises(StateError, match="nothing lies between"):
        verdict_report(path, since=5.0, until=4.0)


def test_old_records_and_too_many_go(path, monkeypatch):
    """Age and number are bounded; the newest stay."""
    monkeypatch.setattr(verdict_file, "MOST_RECORDS", 10)
    now = time.time()
    with VerdictFile(path) as file:
        file.add(*records_of("old", judged(refused()), now - 31 * DAY))
        for number in range(30):
            counts, records = records_of("p", judged(refused()), now)
            file.add(counts, [replace(records[0], request_id=str(number))])
        file.forget(verdict_file.oldest(30))
        kept = file.records()
        assert [each.request_id for each in kept] == [str(number) for number in range(20, 30)]
        assert file.counts() == [("p", "ops", "base", "refused", 30)]


def test_a_full_disk_costs_records_and_nothing_else(path, caplog):
    """Requests go on, what is lost is counted, it is said once, and records come again with the room."""
    with VerdictLog(path, 30) as log, caplog.at_level(logging.WARNING):
        with pytest.MonkeyPatch.context() as patch:
            error = sqlite3.OperationalError("database or disk is full")
            patch.setattr(log._file, "_db", Full(log._file._db, error))
            for _ in range(3):
                log.add("p", judged(refused()))
                assert log.settled()
            assert log.lost == 3
        log.add("p", judged(refused()))
        assert log.settled()
        assert (log.lost, len(verdict_report(path).records)) == (3, 1)
    said = [record.getMessage() for record in caplog.records]
    assert len([each for each in said if "disk is full" in each]) == 1
    assert "is written again; 3 requests' verdicts were lost" in said[-1]


class Full:
    """A connection whose every write fails."""

    def __init__(self, real, error):
        self._real, self._error = real, error

    def execute(self, sql, *values):
        if sql.startswith("BEGIN"):
            raise self._error
        return self._real.execute(sql, *values)


def test_a_disk_that_hangs_holds_no_request_up(path, monkeypatch):
    """Once so many wait, further records are lost at once."""
    monkeypatch.setattr(verdict_log, "WAITING", 2)
    log = VerdictLog(path, 30)
    for _ in range(5):
        log.add("p", judged(refused()))
    assert log.lost == 3
    with log:
        pass
    assert len(verdict_report(path).records) == 2


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 40, "foreign", "newer"])
def test_a_file_that_is_not_ours_is_left_alone(path, content):
    """Another program's database, a newer release's and rubbish are refused, and stay as they are."""
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        db = sqlite3.connect(path)
        if content == "newer":
            db.execute(f"PRAGMA application_id = {verdict_file.APPLICATION_ID}")
            db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE theirs (x)")
        db.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"guard\.db"):
        VerdictLog(path, 30)
    with pytest.raises(StateError, match=r"guard\.db"):
        verdict_report(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", [os.mkfifo, pathlib.Path.mkdir, lambda path: path.symlink_to(path)])
def test_what_is_no_file_is_refused(path, place):
    """By the server's start and by a report, at once: nothing waits for the other end of a pipe."""
    path.parent.mkdir()
    place(path)
    for opens in (lambda: VerdictLog(path, 30), lambda: verdict_report(path)):
        with pytest.raises(StateError, match=r"guard\.db") as refused:
            opens()
        assert refused.value.hint


def test_a_file_that_may_only_be_read_costs_records(path, monkeypatch, caplog):
    """As a full disk does: the start succeeds, reports read what is there, losses are counted and said."""
    with VerdictFile(path) as file:
        file.add(*records_of("p", judged(refused()), time.time()))
    real = verdict_file.connect  # SQLite opens so what it may not write; root may write everything
    monkeypatch.setattr(verdict_file, "connect", lambda uri: real(uri.replace("mode=rw", "mode=ro")))
    with VerdictLog(path, 30) as log:
        for _ in range(2):
            log.add("p", judged(refused()))
            assert log.settled()
        assert (log.lost, len(verdict_report(path).records)) == (2, 1)
    said = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert (len(said), "their owner" in said[0]) == (1, True)


def test_another_fleets_file_is_added_to(path, tmp_path):
    """Its records stay what they are, by their planners' names; a link leads to the file."""
    with VerdictFile(path) as file:
        file.add(*records_of("theirs", judged(refused()), time.time()))
    (link := tmp_path / "link.db").symlink_to(path)
    with VerdictLog(link, 30) as log:
        log.add("ours", judged(refused()))
    assert {each.planner: each.refused for each in verdict_report(path).counts} == {"theirs": 1, "ours": 1}


def test_no_file_is_an_error_or_an_empty_report(path):
    """A report of a server that never guarded is empty; a file that is named must be there."""
    assert verdict_report(path, missing=True) == VerdictReport()
    with pytest.raises(StateError, match="there is no file"):
        verdict_report(path)
