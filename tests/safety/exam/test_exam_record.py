"""exam.db: a digest keeps its verdict, tries are counted, and a damaged file costs no exam."""

from __future__ import annotations

import os
import pathlib
import sqlite3
import threading
from dataclasses import replace

import pytest
from one_exam import RESULT

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam import exam_record
from s3lora_serve.safety.exam.exam_record import ExamRecord, exam_key, stale
from s3lora_serve.safety.exam.exam_result import ExamVerdict, PairedCounts
from s3lora_serve.storage import sqlite_file

SETTINGS = ExamConfig()
KEY = ("r" * 64, "base", "vllm 1", "questions")


@pytest.fixture
def path(tmp_path):
    """Where the record is; its folder is not there yet."""
    return tmp_path / "state" / "exam.db"


def test_a_result_is_found_by_its_key_and_what_it_is_about(path):
    """Also by the next server; the last one about the same files is their latest; a key has one result."""
    with ExamRecord(path) as record:
        assert (record.find("k"), record.latest("r1"), record.problem) == (None, None, None)
        record.keep(RESULT, "r1", "hub/one")
        record.keep(newer := replace(RESULT, key="k2", why="newer"), "r1", "hub/one")
        record.keep(again := replace(RESULT, why="again"), "r2", "hub/two")
    with ExamRecord(path) as record:
        assert (record.find("k"), record.find("k2"), record.find("k3")) == (again, newer, None)
        assert (record.latest("r1"), record.latest("r2"), record.latest("r3")) == (newer, again, None)
        assert [record.tries(source) for source in ("hub/one", "hub/two", "hub/three")] == [2, 1, 0]


def test_it_is_for_its_owner_alone(path):
    """Attack figures and openings are nobody else's; without a result there is no file."""
    with ExamRecord(path) as record:
        assert record.find("k") is None
        assert not path.parent.exists()
        record.keep(RESULT, "r1", "s")
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_incomplete_exam_is_neither_a_try_nor_a_verdict(path):
    """A time-out tells nothing: it must not stay, nor count against the source on a slow machine."""
    late = replace(RESULT, verdict=ExamVerdict.UNDECIDED, attacks=PairedCounts(0, 0, 0, 0), letters={})
    with ExamRecord(path) as record:
        record.keep(late, "r1", "s")
        assert (record.find("k"), record.latest("r1"), record.tries("s")) == (None, None, 0)
        record.keep(RESULT, "r1", "s")
        record.keep(late, "r1", "s")
        assert (record.find("k"), record.tries("s")) == (RESULT, 1)


def _not_a_database(path):
    path.write_bytes(b"not a database, but something that is quite long" * 100)


def _foreign(path):
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()


def _newer(path):
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


@pytest.mark.parametrize("damage", [_not_a_database, _foreign, _newer])
def test_a_file_that_cannot_be_used_is_a_finding(path, damage, caplog):
    """It is said, left as it is, and this server's own results are kept in memory meanwhile."""
    path.parent.mkdir()
    damage(path)
    before = path.read_bytes()
    with ExamRecord(path) as record:
        assert str(path) in (record.problem or "")
        assert "move it away" in record.problem
        record.keep(RESULT, "r1", "s")
        assert (record.find("k"), record.latest("r1"), record.tries("s")) == (RESULT, RESULT, 1)
    assert path.read_bytes() == before
    assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1
    with ExamRecord(path) as record:
        assert record.find("k") is None


@pytest.mark.parametrize("damage", [_not_a_database, _newer])
def test_what_was_moved_away_is_made_anew(path, damage):
    """As the finding says, and without a restart: what waited in memory is in the new file."""
    path.parent.mkdir()
    damage(path)
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
        path.rename(path.with_suffix(".old"))
        record.keep(replace(RESULT, key="k2"), "r1", "s")
        assert record.problem is None
    with ExamRecord(path) as record:
        assert (record.find("k"), record.tries("s")) == (RESULT, 2)


def test_a_folder_that_cannot_be_is_a_finding(tmp_path):
    """Such as one where a file stands."""
    (tmp_path / "file").write_text("")
    with ExamRecord(tmp_path / "file" / "exam.db") as record:
        record.keep(RESULT, "r1", "s")
        assert record.problem
        assert record.find("k") == RESULT


def _nowhere(path):
    path.symlink_to(path.parent / "nowhere")


def _circle(path):
    path.symlink_to(path)


@pytest.mark.parametrize("place", [_nowhere, _circle, os.mkfifo, pathlib.Path.mkdir])
def test_what_is_no_file_is_a_finding(path, place):
    """A link that leads nowhere or round, a pipe, a folder: nothing waits for it, and nothing is made."""
    path.parent.mkdir()
    place(path)
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
        assert str(path) in (record.problem or "")
        assert "; " in record.problem  # a hint
        assert record.find("k") == RESULT
    assert list(path.parent.iterdir()) == [path]


def test_a_link_leads_to_the_file(path, tmp_path):
    """As where the state lies on a volume of its own."""
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
    (link := tmp_path / "link.db").symlink_to(path)
    with ExamRecord(link) as record:
        record.keep(replace(RESULT, key="k2"), "r1", "s")
        assert (record.problem, record.find("k")) == (None, RESULT)
    with ExamRecord(path) as record:
        assert (record.find("k2") is not None, link.is_symlink()) == (True, True)


def test_a_file_that_may_only_be_read_is_read(path, monkeypatch, caplog):
    """What it holds is asked no more; what is found meanwhile is kept in memory, and that is said once."""
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
    real = exam_record.connect  # SQLite opens so what it may not write; root may write everything
    monkeypatch.setattr(exam_record, "connect", lambda uri: real(uri.replace("mode=rw", "mode=ro")))
    later = replace(RESULT, key="k2")
    with ExamRecord(path) as record:
        assert (record.problem, record.find("k")) == (None, RESULT)
        for _ in range(2):
            record.keep(later, "r1", "s")
        assert ("readonly" in record.problem, "their owner" in record.problem) == (True, True)
        assert (record.find("k"), record.find("k2"), record.latest("r1")) == (RESULT, later, later)
        assert record.tries("s") == 3
    assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1


def test_another_fleets_file_says_nothing_of_this_one(path):
    """What it found of other base weights is under another key, so it is no verdict; tries are by source."""
    theirs = exam_key("r" * 64, "their base", "vllm 1", "questions", SETTINGS)
    with ExamRecord(path) as record:
        record.keep(replace(RESULT, key=theirs), "r" * 64, "hub/one")
    with ExamRecord(path) as record:
        found = record.latest("r" * 64)
        assert (record.find(exam_key(*KEY, SETTINGS)), record.problem) == (None, None)
        assert stale(found, exam_key(*KEY, SETTINGS))
        record.keep(ours := replace(RESULT, key=exam_key(*KEY, SETTINGS)), "r" * 64, "hub/one")
        assert (record.find(theirs) is not None, record.find(ours.key)) == (True, ours)
        assert (record.latest("r" * 64), record.tries("hub/one")) == (ours, 2)


def test_damage_while_it_runs_is_a_finding(path):
    """What was kept is lost, and nothing fails: neither the reading nor what is written next."""
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
        with sqlite3.connect(path) as other:
            other.execute("DROP TABLE results")
        other.close()
        assert record.find("k") is None
        assert "no such table" in (record.problem or "")
        record.keep(RESULT, "r1", "s")
        assert (record.find("k"), record.tries("s")) == (RESULT, 2)


def test_a_disk_that_is_busy_loses_nothing(path, monkeypatch, caplog):
    """What cannot be written is kept in memory until it can, in order, and what was written is still read."""
    monkeypatch.setattr(sqlite_file, "BUSY_SECONDS", 0.0)
    later, last = replace(RESULT, key="k2"), replace(RESULT, key="k3")
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        record.keep(later, "r1", "s")
        assert "locked" in (record.problem or "")
        assert (record.find("k"), record.find("k2"), record.latest("r1")) == (RESULT, later, later)
        other.execute("COMMIT")
        other.close()
        record.keep(last, "r1", "s")
        assert (record.problem, record.latest("r1"), record.tries("s")) == (None, last, 3)
    with ExamRecord(path) as record:
        assert [record.find(key) for key in ("k", "k2", "k3")] == [RESULT, later, last]
        assert (record.latest("r1"), record.tries("s")) == (last, 3)
    assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"verdict": "maybe"}', b"null", b"\xff"])
def test_an_unreadable_result_is_none(path, text):
    """Its exam is taken anew."""
    with ExamRecord(path) as record:
        record.keep(RESULT, "r1", "s")
        with sqlite3.connect(path) as other:
            other.execute("UPDATE results SET result = ?", (text,))
        other.close()
        assert (record.find("k"), record.latest("r1")) == (None, None)
        record.keep(RESULT, "r1", "s")
        assert record.find("k") == RESULT
        assert record.problem is None


def test_old_ones_go(path, monkeypatch):
    """The file does not grow for ever."""
    monkeypatch.setattr(exam_record, "MOST_RESULTS", 3)
    monkeypatch.setattr(exam_record, "MOST_TRIES", 2)
    with ExamRecord(path) as record:
        for n in range(5):
            record.keep(replace(RESULT, key=f"k{n}"), "r1", "s")
        assert [record.find(f"k{n}") is not None for n in range(5)] == [False, False, True, True, True]
        assert record.tries("s") == 2


def test_threads_may_share_it(path):
    """Examiners read it beside the event loop."""
    problems = []

    def work(number):
        try:
            for n in range(10):
                record.keep(replace(RESULT, key=f"{number}-{n}"), "r1", "s")
                assert record.find(f"{number}-{n}") is not None
        except Exception as error:
            problems.append(error)

    with ExamRecord(path) as record:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (problems, record.tries("s")) == ([], 40)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_attack_rise": 0.05},
        {"tolerated_rise": 0.2},
        {"confidence": 0.9},
        {"max_utility_loss": 0.2},
        {"answer_tokens": 32},
        {"against": "a" * 64},
        {"plan_form": False},
    ],
)
def test_the_key_has_what_a_verdict_hangs_on(changes):
    """A verdict by other margins, or against another revision, is another verdict."""
    assert exam_key(*KEY, ExamConfig(**changes)) != exam_key(*KEY, SETTINGS)


@pytest.mark.parametrize("at", range(4))
def test_the_key_has_who_and_what(at):
    """Another revision, base, engine or set of questions."""
    other = [*KEY]
    other[at] = "other"
    assert exam_key(*other, SETTINGS) != exam_key(*KEY, SETTINGS)


def test_the_key_has_nothing_else():
    """What follows from a verdict, and how fast it is asked for, makes none stale."""
    same = ExamConfig(action="refuse", undecided="serve", seconds=5, share=0.5, taus=(0.1,))
    key = exam_key(*KEY, SETTINGS)
    assert exam_key(*KEY, same) == key
    assert not stale(replace(RESULT, key=key), key)
    assert stale(replace(RESULT, key=key), exam_key(*KEY, ExamConfig(confidence=0.9)))
