"""The chain of hashes over the journal: every entry names the hash of the one before."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.entry import Entry, NewEntry
from s3lora_serve.storage.canonical_json import canonical_bytes, canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")
GENESIS = "0" * 64  # what the first entry names as the hash before it


@dataclass(frozen=True)
class Head:
    """The last entry's number and hash; a copy kept elsewhere shows later that nothing before it changed."""

    seq: int = 0
    hash: str = GENESIS

    @classmethod
    def parse(cls, text: str) -> Head:
        """The head that was given out as SEQ:HASH. Raises ValueError."""
        if (found := _HEAD.fullmatch(text.strip().lower())) is None:
            raise ValueError(f"{text[:100]!r} is not SEQ:HASH")
        return cls(int(found[1]), found[2])


@dataclass(frozen=True)
class Broken:
    """The first number at which the chain does not hold, and why.

    ``rewritten``: hashes fit their entries and not each other, so entries before may have been computed anew.
    """

    seq: int
    reason: str
    rewritten: bool = field(default=False, compare=False)


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


def followed(
    entries: Iterable[Entry | Broken], kept: Head, after: Head | None = None
) -> Iterator[Entry | Broken]:
    """The entries as they are, with one ``Broken`` where the chain first does not hold.

    ``after`` is the entry before the first, ``kept`` the head that stands beside the entries.
    """
    last, broken, replaced = after or Head(), None, False
    for entry in entries:
        if broken is None:
            broken = (
                entry if isinstance(entry, Broken) else _next(entry, last) or _beyond(last, kept, replaced)
            )
            if broken is not None:
                yield broken
        if not isinstance(entry, Broken):
            last = Head(entry.seq, entry.hash)
            replaced = last.seq == kept.seq and last.hash != kept.hash
            yield entry
    if broken is not None:
        return
    if last.seq < kept.seq:
        why = f"the journal ends at entry {last.seq}, but {kept.seq} were written: the others were deleted"
        yield Broken(last.seq + 1, why)
    elif replaced:
        yield Broken(last.seq, f"entry {last.seq} is not the one that was written: it was replaced", True)


def _beyond(last: Head, kept: Head, replaced: bool) -> Broken | None:
    """What is wrong with there being an entry after ``last``."""
    if last.seq != kept.seq:
        return None
    why = f"entries after {kept.seq} were added by something other than the server"
    return Broken(last.seq + 1, why, replaced)


def noted_broken(entry: Entry, noted: Head) -> Broken | None:
    """Whether an entry is another one than the one that was noted."""
    if noted.seq == entry.seq and noted.hash != entry.hash:
        why = f"entry {entry.seq} has another hash than the one noted: it was replaced"
        return Broken(entry.seq, why, rewritten=True)
    return None


def first_broken(entries: Iterable[Entry | Broken], kept: Head, noted: Head | None = None) -> Broken | None:
    """What is first wrong with the whole journal, read from its start; None if all of it holds.

    ``kept`` is the head that stands beside the entries, ``noted`` an earlier one that was kept elsewhere.
    """
    last = Head()
    for entry in followed(entries, kept):
        if isinstance(entry, Broken):
            return entry
        if noted is not None and (broken := noted_broken(entry, noted)) is not None:
            return broken
        last = Head(entry.seq, entry.hash)
    return beyond(last, noted)


def beyond(last: Head, noted: Head | None) -> Broken | None:
    """Whether an entry was noted that the journal does not have."""
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
        why = f"entry {entry.seq} does not follow the one before: {which} was replaced"
        return Broken(entry.seq, why, rewritten=True)
    return None


def _text(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
