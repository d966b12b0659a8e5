"""What was done to the journal behind the server's back is noticed, and what cannot be is said."""

from __future__ import annotations

import hashlib
import json
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_factory import decide

from s3lora_serve.control.journal.chain import Broken, Head, chained, first_broken
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.errors import StateError

COLUMNS = (
    "at", "actor", "action", "planner", "operation", "from_digest", "to_digest", "reason", "previous_hash",
    "hash",
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """A closed journal of six entries."""
    path = tmp_path / "state.db"
    with Journal(path) as journal:
        for n in range(1, 4):
            decide(journal, n, entries=2)
    return path


def tamper(path, *statements):
    """What a user of a SQLite shell can do who knows of the triggers."""
    db = sqlite3.connect(path)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def verdict(path, noted=None):
    """What a reader finds."""
    with Journal(path, read_only=True) as journal:
        return journal.verify(noted)


def test_the_hash_is_what_the_documents_say(path):
    """sha256 of the canonical JSON of every field but the hash: anyone can check it without this package."""
    with Journal(path) as journal:
        for entry in journal.entries():
            content = {key: value for key, value in entry.to_json().items() if key != "hash"}
            text = json.dumps(content, sort_keys=True, separators=(",", ":"))
            assert hashlib.sha256(text.encode()).hexdigest() == entry.hash


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET reason = 'other' WHERE seq = 2",
        "DELETE FROM journal WHERE seq = 6",
        "DELETE FROM journal",
        "REPLACE INTO journal SELECT * FROM journal WHERE seq = 3",
        "INSERT INTO journal SELECT 0, at, actor, action, planner, operation, from_digest, to_digest, reason,"
        " details, previous_hash, hash FROM journal WHERE seq = 3",
        "UPDATE head SET seq = 5",
        "UPDATE head SET hash = 'other'",
        "DELETE FROM head",
    ],
)
def test_the_database_refuses_to_rewrite_history(path, statement):
    """Plain SQL cannot change, remove, replace or slip in an entry, nor turn the head back."""
    db = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|only goes forward"):
        db.execute(statement)
    db.close()
    assert verdict(path) is None


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("seq", [1, 3, 6])
def test_a_changed_field_is_found(path, column, seq):
    """Whichever field of whichever entry was edited, the entry is named."""
    tamper(path, f"UPDATE journal SET {column} = 'x' WHERE seq = {seq}")
    assert verdict(path) == Broken(seq, f"entry {seq} is not what was written: its hash does not fit it")


@pytest.mark.parametrize(
    "value",
    ["'{}'", "'{\"n\":3}'", "'{'", "'[]'", "'{\"n\":NaN}'", "''", "7", "x'ff'", "CAST(x'ff' AS TEXT)"],
)
def test_changed_details_are_found_also_when_unreadable(path, value):
    """Other details, no JSON, bytes that are no text: all are found, and cannot be read as an entry."""
    tamper(path, f"UPDATE journal SET details = {value} WHERE seq = 3")
    assert verdict(path).seq == 3
    if value not in ("'{}'", "'{\"n\":3}'"):
        with (
            Journal(path) as journal,
            pytest.raises(StateError, match=r"entry 3: its details cannot be read"),
        ):
            journal.entries()


@pytest.mark.parametrize("value", ["7", "1.5", "x'ff'", "CAST(x'ff' AS TEXT)"])
def test_a_value_of_another_kind_is_found(path, value):
    """SQLite takes any kind of value in any column; the check takes only what was written."""
    tamper(path, f"UPDATE journal SET reason = {value} WHERE seq = 3")
    assert verdict(path).seq == 3


@pytest.mark.parametrize(
    ("statements", "broken"),
    [
        (["DELETE FROM journal WHERE seq = 3"], Broken(3, "entry 3 is missing")),
        (["DELETE FROM journal WHERE seq < 4"], Broken(1, "1 to 3 are missing")),
        (
            ["DELETE FROM journal WHERE seq > 4"],
            Broken(5, "the journal ends at entry 4, but 6 were written: the others were deleted"),
        ),
        (
            ["DELETE FROM journal"],
            Broken(1, "the journal ends at entry 0, but 6 were written: the others were deleted"),
        ),
        (
            ["UPDATE journal SET seq = -seq WHERE seq = 2"],
            Broken(-2, "entry -2 does not belong here: 1 is next"),
        ),
        (
            ["UPDATE head SET seq = 5"],
            Broken(6, "entries after 5 were added by something other than the server"),
        ),
        (
            ["UPDATE head SET hash = 'x'"],
            Broken(6, "entry 6 is not the one that was written: it was replaced"),
        ),
        (["DELETE FROM head"], Broken(6, "the head of the journal was deleted")),
    ],
)
def test_what_was_taken_out_put_in_or_moved_is_found(path, statements, broken):
    """Gaps, a cut tail, rows out of place, and a head that does not fit."""
    tamper(path, *statements)
    assert verdict(path) == broken


def rewrite(path, start, count=6, **changes):
    """Change ``count`` entries from ``start`` on and compute their hashes anew; returns the last head."""
    with Journal(path, read_only=True) as journal:
        entries = journal.entries()
    head, statements = Head(start - 1, entries[start - 1].previous_hash), []
    for entry in entries[start - 1 :][:count]:
        values = {key: getattr(entry, key) for key in NewEntry.__dataclass_fields__}
        new = chained(NewEntry(**{**values, **changes}), head, entry.at)
        statements.append(
            f"UPDATE journal SET actor = '{new.actor}', previous_hash = '{new.previous_hash}',"
            f" hash = '{new.hash}' WHERE seq = {new.seq}"
        )
        head = Head(new.seq, new.hash)
    tamper(path, *statements)
    return head


@pytest.mark.parametrize("count", [1, 2])
def test_entries_with_hashes_computed_anew_are_found_by_the_next_one(path, count):
    """Who mends the hash of what he changed breaks the link to the entry after it."""
    rewrite(path, 3, count, actor="mallory")
    at = 3 + count
    why = f"entry {at} does not follow the one before: entry {at - 1} or {at} was replaced"
    assert verdict(path) == Broken(at, why)


def test_a_chain_computed_anew_is_found_by_the_head(path):
    """Who changes an entry and mends every hash after it still leaves the old head standing."""
    rewrite(path, 3, actor="mallory")
    assert verdict(path) == Broken(6, "entry 6 is not the one that was written: it was replaced")


def test_only_a_head_noted_elsewhere_shows_a_forged_head(path):
    """Who mends the head too cannot be noticed from the file alone; a head that was noted before shows it."""
    with Journal(path) as journal:
        noted = journal.head()
        decide(journal, 4, entries=2)
    forged = rewrite(path, 3, actor="mallory")
    tamper(path, f"UPDATE head SET hash = '{forged.hash}'")
    assert verdict(path) is None
    assert verdict(path, noted) == Broken(6, "entry 6 has another hash than the one noted: it was replaced")


def test_only_a_head_noted_elsewhere_shows_that_the_head_was_turned_back(path):
    """Who cuts the tail and turns the head back cannot be noticed from the file alone either."""
    with Journal(path) as journal:
        noted, hash_of_4 = journal.head(), journal.entries()[3].hash
    assert verdict(path, noted) is None
    tamper(path, "DELETE FROM journal WHERE seq > 4", f"UPDATE head SET seq = 4, hash = '{hash_of_4}'")
    assert verdict(path) is None
    assert verdict(path, noted) == Broken(5, "entry 6 was noted, but the journal ends at 4")


def test_a_server_goes_on_after_a_cut_tail_and_the_gap_stays(path):
    """Serving matters more than the account of it; but what was cut off stays visible in all that follows."""
    tamper(path, "DELETE FROM journal WHERE seq > 4")
    with Journal(path) as journal:
        assert decide(journal, 4, entries=1) == 7
        assert journal.verify() == Broken(5, "5 to 6 are missing")


def test_a_server_does_not_write_over_what_was_slipped_in(path):
    """An entry beyond the head, or no head at all: the next write is refused and nothing is overwritten."""
    with Journal(path) as journal:
        entry = journal.entries()[-1]
    columns = ", ".join(["details", *COLUMNS])
    tamper(path, f"INSERT INTO journal (seq, {columns}) SELECT 7, {columns} FROM journal WHERE seq = 6")
    with Journal(path) as journal:
        with pytest.raises(StateError, match="the audit says"):
            decide(journal, 4)
        assert journal.planners()["search"].generation == 3
        assert journal.verify() == Broken(
            7, f"entry {entry.seq + 1} is not what was written: its hash does not fit it"
        )
    tamper(path, "DELETE FROM journal WHERE seq = 7", "DELETE FROM head")
    with (
        Journal(path) as journal,
        pytest.raises(StateError, match=r"head of the journal was deleted.*backup"),
    ):
        decide(journal, 4)


def test_long_journals_are_checked_to_their_end(tmp_path):
    """The check reads in chunks; it must not stop at the end of one, nor when entries end with a chunk."""
    path = tmp_path / "state.db"
    with Journal(path) as journal:
        decide(journal, 1, entries=1000)
        assert journal.verify() is None
        decide(journal, 2, entries=1001)
        assert journal.verify() is None
    tamper(path, "UPDATE journal SET reason = 'x' WHERE seq = 2001")
    assert verdict(path).seq == 2001


def entries(count):
    """A chain of that many entries."""
    head, made = Head(), []
    for n in range(count):
        entry = chained(NewEntry("a", "b", details={"n": n}), head, "2030-01-01T00:00:00.000000Z")
        head = Head(entry.seq, entry.hash)
        made.append(entry)
    return made


@given(st.permutations(range(6)), st.integers(0, 6))
def test_only_the_whole_chain_in_its_order_holds(order, keep):
    """Any other order, and any part of it, is broken, whatever stands where."""
    chain = entries(6)
    kept = Head(chain[-1].seq, chain[-1].hash)
    found = first_broken([chain[i] for i in order[:keep]], kept)
    assert (found is None) == (list(order[:keep]) == list(range(6)))
