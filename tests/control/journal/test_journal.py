"""The journal gives back what was written, whole, in order, and to readers beside the writer too."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_factory import decide, decided, digest, operation, record, writer

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Head, Journal
from s3lora_serve.control.operation import Kind, Operation, Order, Step, Wanted, fingerprint
from s3lora_serve.errors import StateError
from s3lora_serve.spectral.prune_policy import PrunePolicy


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "state.db"


@pytest.fixture
def journal(path):
    with Journal(path) as journal:
        yield journal


def test_what_is_written_is_read_back(journal, path):
    """Every field of every record is as it was written, also after the file was opened again."""
    rollout = {"share": 0.25, "shadow": False, "since": 1e9, "promote_after": None}
    serves = record("search", 7, candidate=digest(8), rollout=rollout)
    ordered = operation(
        3, Step.DRAINING, key="k", ended_at=4.5, from_digest=digest(6), to_digest=digest(7), progress="drain",
        fraction=0.5, seconds={"load": 0.1}, cut=("r1", "r2"), details={"diff": [{"a": None}]},
        error={"code": "lease_cut", "message": "m", "hint": ""},
    )  # fmt: skip
    new = NewEntry("rule:error_rate", "rollback", "search", "op-3", digest(7), digest(6), "why", {"n": [1]})
    before = datetime.now(UTC)
    (entry,) = journal.write(new, planner=serves, operation=ordered)
    journal.close()
    with Journal(path) as journal:
        assert journal.planners() == {"search": serves}
        assert (journal.operation("op-3"), journal.operation("op-4")) == (ordered, None)
        assert journal.entries() == [entry]
    about = entry.details["written"]
    assert (set(about), about["record"]["active"]) == ({"planner", "record", "operation"}, digest(7))
    told = dataclasses.replace(new, details={**new.details, "written": about})
    assert dataclasses.asdict(told).items() <= dataclasses.asdict(entry).items()
    assert (entry.seq, entry.previous_hash) == (1, "0" * 64)
    assert entry.at.endswith("Z")
    assert 0 <= (datetime.fromisoformat(entry.at) - before).total_seconds() < 60


def test_a_write_is_all_or_nothing(journal):
    """A write of which one part is refused leaves no part behind, and the next write is unharmed."""
    journal.write(operation=operation(1, key="taken"))
    with pytest.raises(StateError, match="UNIQUE"):
        journal.write(NewEntry("a", "b"), planner=record(), operation=operation(2, key="taken"))
    with pytest.raises(ValueError, match="JSON"):
        journal.write(NewEntry("a", "b"), NewEntry("a", "c", details={"x": float("nan")}), planner=record())
    assert (journal.entries(), journal.planners(), journal.operation("op-2")) == ([], {}, None)
    assert journal.write(NewEntry("a", "b"))[0].seq == 1
    assert journal.verify() is None


def test_operations_are_found_by_id_key_and_age(journal):
    """A later write of an operation replaces it; the fingerprint of its order stays the first one."""
    for n in (2, 1, 3):
        journal.write(operation=operation(n, Step.LOADING, key=f"k{n}"), fingerprint=f"f{n}")
    ended = operation(2, Step.FAILED, key="k2")
    journal.write(operation=ended)
    assert journal.operation_by_key("k2") == (ended, "f2")
    assert journal.operation_by_key("k4") is None
    assert [each.id for each in journal.operations()] == ["op-3", "op-2", "op-1"]
    assert [each.id for each in journal.operations(limit=1)] == ["op-3"]
    assert [each.id for each in journal.running()] == ["op-1", "op-3"]


def test_every_step_that_has_not_ended_counts_as_running(journal):
    """After a restart no operation that was cut short is overlooked."""
    for n, step in enumerate(Step):
        journal.write(operation=operation(n, step))
    assert {each.step for each in journal.running()} == {step for step in Step if not step.ended}


def test_entries_are_read_by_planner_from_a_number_on_either_way(journal):
    """``after`` leaves out, ``limit`` cuts off, both also per planner; numbers may be beyond SQLite's."""
    journal.write(*(NewEntry("a", "b", name) for name in ("p", "q", None, "p", "q", "p")))

    def seqs(*args, **kw):
        return [entry.seq for entry in journal.entries(*args, **kw)]

    assert seqs() == [1, 2, 3, 4, 5, 6]
    assert seqs("p") == [1, 4, 6]
    assert seqs("p", after=1, limit=1) == [4]
    assert seqs(newest_first=True, limit=2, after=3) == [6, 5]
    assert seqs("p", newest_first=True, limit=1) == [6]
    assert (seqs(after=10**30), seqs(limit=-1), seqs(limit=10**30)) == ([], [], [1, 2, 3, 4, 5, 6])


def test_text_that_is_no_text_is_written_as_escapes(journal):
    """A reason from a command line may hold lone surrogates, a NUL or anything else; the chain holds."""
    (entry,) = journal.write(NewEntry("a\udcff", "b", reason="x\0y → ü", details={"\udcff": "\ud800"}))
    assert (entry.actor, entry.reason) == ("a\\udcff", "x\0y → ü")
    assert journal.entries() == [entry]
    assert journal.verify() is None


digests = st.none() | st.integers(0, 9).map(digest)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
words = st.text(st.characters(codec="utf-8"), max_size=12)
new_entries = st.builds(
    NewEntry, words, words, st.none() | words, st.none() | words, digests, digests, words,
    st.dictionaries(words, json_values, max_size=3),
)  # fmt: skip
records = st.builds(
    record, st.sampled_from("pqr"), st.integers(0, 9), previous=digests, candidate=digests,
    rollout=st.none() | st.dictionaries(words, json_values, max_size=2),
)  # fmt: skip
operations = st.builds(
    Operation, st.sampled_from(["1", "2", "3"]), st.sampled_from(Kind), st.none() | words,
    st.builds(Order, words, words, digests), st.sampled_from(Step), st.just(1.0),
    cut=st.lists(words).map(tuple), details=st.dictionaries(words, json_values, max_size=2),
)  # fmt: skip
write = st.tuples(
    st.lists(new_entries, max_size=3), st.none() | records, st.none() | operations,
    st.none() | st.sampled_from("pqr"), st.booleans(),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(writes=st.lists(write, max_size=12))
def test_any_sequence_of_writes_reads_back_as_a_model_says(writes):
    """A dict and a list, given the same writes, hold the same as the file, however often it is reopened."""
    planners, running, lines = {}, {}, []
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "state.db"))
        for entries, planner, ordered, remove, reopen in writes:
            lines += entries
            written = journal.write(*entries, planner=planner, operation=ordered, remove=remove)
            assert [each.seq for each in written] == list(
                range(len(lines) - len(entries) + 1, len(lines) + 1)
            )
            if planner:
                planners[planner.name] = planner
            if ordered:
                running[ordered.id] = ordered
            planners.pop(remove, None)
            if reopen:
                journal.close()
                journal = Journal(Path(folder, "state.db"))
        assert journal.planners() == planners
        assert {each.id: each for each in journal.operations()} == running
        read = journal.entries()
        for entry in read:
            entry.details.pop("written", None)  # what else was written with it
        assert [{key: getattr(e, key) for key in vars(new)} for e, new in zip(read, lines, strict=True)] == [
            vars(new) for new in lines
        ]
        assert journal.verify() is None
        assert journal.head() == (Head(read[-1].seq, read[-1].hash) if read else Head())
        journal.close()


@pytest.mark.process
def test_readers_work_beside_a_writer(path):
    """A reader in another process sees whole decisions only, ever more of them, and an unbroken chain."""
    with writer(path) as server:
        assert server.stdout.readline() == b"open\n"
        try:
            seen = [0]
            with Journal(path, read_only=True) as reader:
                deadline = time.monotonic() + 30
                while len(set(seen)) < 6 and time.monotonic() < deadline:
                    assert reader.verify() is None
                    lines = reader.entries(limit=10**6)
                    assert len(lines) % 20 == 0
                    seen.append(len(lines))
                with pytest.raises(StateError, match="for reading only"):
                    reader.write(NewEntry("a", "b"))
        finally:
            server.kill()
        assert seen == sorted(seen)
        assert len(set(seen)) == 6, "the writer stood still, so that nothing was tested"
    with Journal(path, read_only=True) as reader:  # no process has the file open, its WAL was left behind
        assert decided(reader) * 20 >= seen[-1]


async def test_threads_share_one_journal(journal):
    """Called through ``asyncio.to_thread`` from many tasks at once, every write is whole and in one chain."""
    await asyncio.gather(*(asyncio.to_thread(decide, journal, n, 3) for n in range(1, 41)))
    lines = journal.entries(limit=200)
    assert sorted(entry.details["n"] for entry in lines[::3]) == list(range(1, 41))
    numbers = [entry.details["n"] for entry in lines]
    assert all(numbers[i] == numbers[i + 1] == numbers[i + 2] for i in range(0, 120, 3))
    assert journal.verify() is None


def test_a_closed_journal_says_so(journal):
    """Closing twice is harmless; using it then is a StateError: a stopping server may still be asked."""
    journal.close()
    journal.close()
    for use in (journal.planners, journal.verify, lambda: journal.write(NewEntry("a", "b"))):
        with pytest.raises(StateError, match="was closed"):
            use()


def test_an_operation_is_its_json():
    """``from_json`` gives back what ``to_json`` described, and refuses what it never wrote."""
    ordered = operation(1, Step.FLIPPING, key="k", cut=("r",), fraction=0.5, details={"share": 0.1})
    assert Operation.from_json(ordered.to_json()) == ordered
    for spoiled in ({"step": "sleeping"}, {"surprise": 1}, {"order": {}}):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Operation.from_json({**ordered.to_json(), **spoiled})


def test_a_fingerprint_covers_what_is_ordered_and_not_by_whom():
    """A retry from another machine is the same order; another revision, policy, share or planner is not."""
    order, wanted = Order("alice@desk", "better", expected="ab"), Wanted(source="hf://a/b")
    same = fingerprint(Kind.CANARY, "p", order, wanted, share=0.1)
    assert same == fingerprint(Kind.CANARY, "p", Order("ci@runner", "retry", "ab", "k"), wanted, share=0.1)
    others = {
        fingerprint(Kind.SWAP, "p", order, wanted, share=0.1),
        fingerprint(Kind.CANARY, "q", order, wanted, share=0.1),
        fingerprint(Kind.CANARY, "p", Order("alice@desk", "better"), wanted, share=0.1),
        fingerprint(Kind.CANARY, "p", order, Wanted(source="hf://a/b", policy=PrunePolicy()), share=0.1),
        fingerprint(Kind.CANARY, "p", order, None, share=0.1),
        fingerprint(Kind.CANARY, "p", order, wanted, share=0.2),
    }
    assert len(others - {same}) == 6
