"""What entries yield: whole records from those of this release, what can be proved from earlier ones."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from journal_factory import digest, operation, record

from s3lora_serve.control.journal.chain import Broken, Head, chained
from s3lora_serve.control.journal.derived import derived, shown
from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.journal.journal_findings import journal_findings
from s3lora_serve.control.journal.journal_proof import examined, proved
from s3lora_serve.control.journal.reconciliation import reconcile
from s3lora_serve.control.operation import Step

P, Q, R = digest(1), digest(2), digest(3)
# What earlier releases wrote of a planner's life, and what that proves of its record.
EARLIER = [
    (("planner.serves", None, P), {"active": P}),
    (("swap.flipped", P, Q), {"active": Q, "previous": P, "candidate": None, "rollout": None}),
    (("canary.flipped", Q, R), {"active": Q, "candidate": R}),
    (("canary.changed", Q, R), {"active": Q, "candidate": R}),
    (("rollback.flipped", Q, None), {"active": Q, "candidate": None, "rollout": None}),
    (("rollback.flipped", Q, P), {"active": P, "previous": Q, "candidate": None, "rollout": None}),
    (("promote.flipped", P, R), {"active": R, "previous": P, "candidate": None, "rollout": None}),
    (("apply.declared", R, R), {"active": R}),
    (("apply.removed", R, None), None),
]


def of_earlier(*entries, details=None):
    """A chain of entries without what was written beside them."""
    head, made = Head(), []
    for action, old, new in entries:
        line = NewEntry("alice", action, "search", "op-1", old, new, details=details or {})
        made.append(chained(line, head, f"2026-01-01T00:00:{len(made):02}.000000Z"))
        head = Head(made[-1].seq, made[-1].hash)
    return made


@pytest.mark.parametrize("length", range(1, len(EARLIER) + 1))
def test_entries_of_earlier_releases_prove_a_part(length):
    """The last one that decided is what counts."""
    found = derived(of_earlier(*(entry for entry, _ in EARLIER[:length]))).planners["search"]
    assert (found.fields, found.seq) == (EARLIER[length - 1][1], length)


def test_what_stands_before_a_break_holds_and_what_was_rewritten_does_not():
    """A planner that a later entry decided about is in doubt; nobody is certain behind a forged link."""
    first, second = of_earlier(*(entry for entry, _ in EARLIER[:2]))
    found = derived([first, Broken(2, "why"), second])
    assert (found.planners["search"].fields, found.doubtful) == ({"active": P}, {"search": 2})
    found = derived([first, Broken(2, "why", rewritten=True)])
    assert (found.planners, found.doubtful) == ({}, {"search": 2})


@pytest.fixture
def old(tmp_path):
    """A state file as the release before this one wrote it: no ids, and entries that tell of no rows."""
    path = tmp_path / "state.db"
    entries = of_earlier(EARLIER[0][0], EARLIER[1][0], ("swap.done", P, Q))
    with Journal(path) as journal:
        journal.write(planner=record(active=Q, previous=P), operation=operation(1, Step.DONE))
    with closing(sqlite3.connect(path)) as database:
        for entry in entries:
            values = {**vars(entry), "details": json.dumps(entry.details)}
            marks = ", ".join(f":{name}" for name in values)
            database.execute(f"INSERT INTO journal ({', '.join(values)}) VALUES ({marks})", values)
        database.execute("UPDATE head SET seq = ?, hash = ?", (entries[-1].seq, entries[-1].hash))
        database.execute("DROP TABLE fleet")
        database.commit()
    return path


def edited(path, *statements):
    """The file after something else wrote to it."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


def test_an_old_file_is_read_as_it_is(old):
    """It proves what served and how orders ended, is no reason for a finding, and gets its id."""
    with Journal(old, read_only=True) as journal:
        assert (journal.fleet, [each.ok for each in journal_findings(journal)]) == (None, [True])
    with Journal(old) as journal:
        fleet = journal.fleet
        assert (len(fleet), reconcile(journal, ["search"]).withheld) == (32, {})
    with Journal(old) as journal:
        assert journal.fleet == fleet


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        (f"UPDATE planners SET active = '{R}'", "planner search"),
        (f"UPDATE planners SET candidate = '{R}'", "planner search"),
        ("DELETE FROM planners", "planner search"),
        (
            "UPDATE operations SET step = 'failed', body = replace(body, '\"done\"', '\"failed\"')",
            "operation op-1",
        ),
    ],
)
def test_what_an_old_file_proves_is_compared(old, statement, subject):
    """Also before this release wrote anything to it."""
    with Journal(edited(old, statement), read_only=True) as journal:
        bad = [each for each in journal_findings(journal) if not each.ok]
    assert [(each.subject, bool(each.hint)) for each in bad] == [(subject, True)]


def test_a_chain_made_anew_shows_by_a_noted_head_only(old):
    """Every hash computed again and the rows with it: nothing disagrees inside the file."""
    with Journal(old) as journal:
        noted = journal.head()
    forged = of_earlier(EARLIER[0][0], ("swap.flipped", P, R), ("swap.done", P, R))
    drop = [f"DROP TRIGGER {name}" for name in ("journal_keeps_entries", "head_goes_forward")]
    edited(old, *drop, f"UPDATE planners SET active = '{R}'")
    with closing(sqlite3.connect(old)) as database:
        for e in forged:
            values = (e.to_digest, e.previous_hash, e.hash, e.seq)
            database.execute(
                "UPDATE journal SET to_digest = ?, previous_hash = ?, hash = ? WHERE seq = ?", values
            )
        database.execute("UPDATE head SET hash = ?", (forged[-1].hash,))
        database.commit()
    with Journal(old, read_only=True) as journal:
        assert all(each.ok for each in journal_findings(journal))
        told = [each.message for each in journal_findings(journal, noted) if not each.ok]
    assert any("has another hash than the one noted" in message for message in told)


def test_a_start_reads_from_the_last_one_that_wrote_all_down(tmp_path):
    """However long the journal is before: a break there concerns the account, not what serves."""
    with Journal(tmp_path / "state.db") as journal:
        for n in range(1, 4):
            journal.write(NewEntry("a", "swap.flipped", "search", f"op-{n}"), planner=record(n=n))
        details = {"serves": {"search": shown(record(n=3))}, "operations": "0" * 64}
        journal.write(NewEntry("s3lora-serve", "server.started", details=details))
        journal.write(NewEntry("a", "swap.flipped", "search", "op-4"), planner=record(n=4))
    edited(
        tmp_path / "state.db",
        "DROP TRIGGER journal_keeps_entries",
        "UPDATE journal SET reason = 'x' WHERE seq = 2",
    )
    with Journal(tmp_path / "state.db") as journal:
        found, whole = proved(journal)[0], examined(journal)[0]
    assert (found.broken, found.planners["search"].record("search")) == (None, record(n=4))
    assert (whole.broken.seq, found.anchor.seq) == (2, 4)


def test_a_start_that_nobody_made_proves_nothing(tmp_path):
    """An entry that was added behind the head, however well it is linked, is no ground to stand on."""
    path = tmp_path / "state.db"
    with Journal(path) as journal:
        journal.write(NewEntry("a", "swap.flipped", "search", "op-1"), planner=record(n=1))
        head = journal.head()
    details = {"serves": {"search": shown(record(n=2))}, "operations": "0" * 64}
    forged = chained(NewEntry("s3lora-serve", "server.started", details=details), head, "2030")
    values = {**vars(forged), "details": json.dumps(forged.details, sort_keys=True, separators=(",", ":"))}
    with closing(sqlite3.connect(path)) as database:
        marks = ", ".join(f":{name}" for name in values)
        database.execute(f"INSERT INTO journal ({', '.join(values)}) VALUES ({marks})", values)
        database.commit()
    edited(path, f"UPDATE planners SET active = '{digest(2)}'")
    with Journal(path) as journal:
        (withheld,) = reconcile(journal, ["search"]).withheld.values()
    assert withheld.proved == record(n=1)
    assert "the chain breaks at entry 2" in withheld.reason
