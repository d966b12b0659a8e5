"""The chain of hashes over the journal: every entry names the hash of the one before."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.entry import Entry, NewEntry
from s3lora_serve.storage.canonical_json import canonical_bytes, canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

GENESIS = "0" * 64  # what the first entry names as the hash before it


@dataclass(frozen=True)
class Head:
    """The last entry's number and hash; a copy kept elsewhere shows later that nothing before it changed."""

    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True)
class Broken:
    """The first number at which the chain does not hold, and why."""

    seq: int
    reason: str


def chained(new: NewEntry, head: Head, at: str) -> Entry:
    """``new`` as the entry after ``head``.

    Characters that are no text (lone surrogates, which a command line can hold) are written as escapes.
    Raises TypeError or ValueError for details that are not JSON.
    """
    content: dict[str, Any] = {
        "seq": head.seq + 1,
        "at": at,
        **{each.name: _text(getattr(new, each.name)) for each in fields(NewEntry) if each.name != "details"},
        # Read back as it will be later, so that the entry that is returned equals the one that is read.
        "details": json.loads(canonical_bytes(dict(new.details))),
        "previous_hash": head.hash,
    }
    return Entry(**content, hash=canonical_digest(content))


def first_broken(entries: Iterable[Entry | Broken], kept: Head, noted: Head | None = None) -> Broken | None:
    """What is first wrong with the whole journal, read from its start; None if all of it holds.

    ``kept`` is the head that stands beside the entries, ``noted`` an earlier one that was kept elsewhere.
    """
    last = Head()
    for entry in entries:
        if isinstance(entry, Broken):
            return entry
        if broken := _next(entry, last):
            return broken
        if noted is not None and noted.seq == entry.seq and noted.hash != entry.hash:
            return Broken(
                entry.seq, f"entry {entry.seq} has another hash than the one noted: it was replaced"
            )
        last = Head(entry.seq, entry.hash)
    if last.seq < kept.seq:
        why = f"the journal ends at entry {last.seq}, but {kept.seq} were written: the others were deleted"
        return Broken(last.seq + 1, why)
    if last.seq > kept.seq:
        return Broken(kept.seq + 1, f"entries after {kept.seq} were added by something other than the server")
    if last.hash != kept.hash:
        return Broken(kept.seq, f"entry {kept.seq} is not the one that was written: it was replaced")
    if noted is not None and noted.seq > last.seq:
        return Broken(last.seq + 1, f"entry {noted.seq} was noted, but the journal ends at {last.seq}")
    return None


def _next(entry: Entry, last: Head) -> Broken | None:
    """What is wrong with ``entry`` as the one after ``last``."""
    expected = last.seq + 1
    if entry.seq < expected:
        return Broken(entry.seq, f"entry {entry.seq} does not belong here: {expected} is next")
    if entry.seq > expected:
        missing = (
            f"entry {expected} is" if entry.seq == expected + 1 else f"{expected} to {entry.seq - 1} are"
        )
        return Broken(expected, f"{missing} missing")
    if not entry.intact:
        return Broken(entry.seq, f"entry {entry.seq} is not what was written: its hash does not fit it")
    if entry.previous_hash != last.hash:
        which = f"entry {last.seq} or {entry.seq}" if last.seq else f"entry {entry.seq}"
        return Broken(entry.seq, f"entry {entry.seq} does not follow the one before: {which} was replaced")
    return None


def _text(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
