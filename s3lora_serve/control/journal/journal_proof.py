"""The journal read for what it proves: since the last start at the start, all of it in an audit."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.control.journal.chain import Broken, Head, beyond, followed, noted_broken
from s3lora_serve.control.journal.derived import STARTED, Derived, derived, is_anchor, names_all
from s3lora_serve.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3lora_serve.control.journal.agreement import Tables
    from s3lora_serve.control.journal.entry import Entry
    from s3lora_serve.control.journal.journal import Journal

_BEFORE_ALL = -(2**63)


def proved(journal: Journal) -> tuple[Derived, Tables]:
    """What the entries yield since the last start that wrote all of it down, else since the first entry.

    That is enough to prove what shall serve, and cheap however long the journal is: such an entry was written
    by a server that had proved the same. With the tables of that moment. Raises StateError if the file cannot
    be read.
    """
    base, full = _last(journal, names_all), _last(journal, is_anchor)
    found, tables = _derived(journal, base)
    if full != base:  # operations were not what they should be at the starts since
        older, tables = _derived(journal, full)
        found = replace(
            found,
            operations=older.operations,
            steps=older.steps,
            anchor=older.anchor,
            since=older.since,
        )
    return found, tables


def _last(journal: Journal, such: Callable[[Entry], bool]) -> Head:
    """The head before the last start whose entry is such a one; before all if there is none."""
    with contextlib.suppress(StateError):  # without a head nothing is proved, wherever one begins
        kept = journal.head().seq
        return _before_start(journal, such, kept)
    return Head()


def _before_start(journal: Journal, such: Callable[[Entry], bool], kept: int) -> Head:
    for seq in journal.numbers(STARTED):
        if seq > kept:
            continue  # something other than the server added it
        with contextlib.suppress(StateError):  # an entry that cannot be read is where the chain breaks
            entry = next(iter(journal.entries(after=seq - 1, limit=1)), None)
            if entry is not None and entry.seq == seq and such(entry) and entry.intact:
                return Head(seq - 1, entry.previous_hash)
    return Head()


def examined(journal: Journal, noted: Head | None = None) -> tuple[Derived, Tables]:
    """What all entries yield; ``noted`` is a head that was kept elsewhere. Raises StateError."""
    return _derived(journal, Head(), noted)


def _derived(journal: Journal, after: Head, noted: Head | None = None) -> tuple[Derived, Tables]:
    tables = journal.tables()  # entries up to its last one cannot change any more
    if tables.kept is None:
        gone = Broken(tables.last, "the head of the journal was deleted", rewritten=True)
        return derived([gone]), tables
    return derived(_checked(journal, after, tables.last, tables.kept, noted)), tables


def _checked(
    journal: Journal, after: Head, last: int, kept: Head, noted: Head | None
) -> Iterator[Entry | Broken]:
    end = after
    entries = journal.between(after.seq or _BEFORE_ALL, last)
    for entry in followed(entries, kept, after):
        yield entry
        if isinstance(entry, Broken):
            continue
        end = Head(entry.seq, entry.hash)
        if noted is not None and (broken := noted_broken(entry, noted)) is not None:
            yield broken
    if (broken := beyond(end, noted)) is not None:
        yield broken
