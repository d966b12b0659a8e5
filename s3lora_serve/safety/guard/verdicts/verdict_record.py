"""What is written down of a judged request, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s3lora_serve.safety.guard.ruling import Found
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from s3lora_serve.safety.guard.guarding import Guarding

WORDS, CHARACTERS = 6, 60  # of a refused task, at most

EXEMPT = "exempt"  # in place of a finding, of a request that no judge was asked about: ``allow``

Done = Literal["withheld", "served", "open"]


@dataclass(frozen=True)
class VerdictRecord:
    """One judge's finding about one request that was not plainly allowed, and what was done about it.

    ``withheld``: nothing of the answer left. ``open``: there was no verdict, and the answer may have left
    since ``fail`` is open. ``served``: such refusals are only counted, and the answer may have left.
    ``words`` are the first of the task, and only of a refusal, so that an operator can tell what a guard is
    right about; of anything else there is the ``digest`` alone. That is of the whole request: a guess at a
    short task can be checked against it.
    """

    at: float  # Unix seconds
    planner: str
    revision: str  # empty: not known by then
    request_id: str
    caller: str
    by: str
    part: str  # empty, but for a refusal
    finding: str
    done: Done
    digest: str
    words: str
    why: str  # of a failure or an undecided one: nothing of request or answer


@dataclass(frozen=True)
class VerdictCount:
    """One judge's finding about one more request, whichever it was; counts are kept by the hour.

    ``EXEMPT`` is the finding, and ``by`` empty, where nobody was asked.
    """

    at: float
    planner: str
    caller: str
    by: str
    finding: str


def records_of(
    planner: str, guarding: Guarding, at: float
) -> tuple[tuple[VerdictCount, ...], tuple[VerdictRecord, ...]]:
    """What is kept of a request once all is judged: a count for each ruling, and who did not allow it."""
    counts = tuple(
        VerdictCount(at, planner, guarding.caller, ruling.by, ruling.finding) for ruling in guarding.rulings
    )
    done, digest = done_with(guarding), ""
    records = []
    for ruling in guarding.rulings:
        if ruling.finding is Found.ALLOWED:
            continue
        digest = digest or guarding.question.digest
        refused = ruling.finding is Found.REFUSED
        records.append(
            VerdictRecord(
                at=at,
                planner=planner,
                revision=guarding.revision,
                request_id=guarding.request_id,
                caller=guarding.caller,
                by=ruling.by,
                part=ruling.part or "",
                finding=ruling.finding,
                done=done,
                digest=digest,
                words=first_words(guarding.question.task) if refused else "",
                why=ruling.why,
            )
        )
    return counts, tuple(records)


def done_with(guarding: Guarding) -> Done:
    """What became of the answer."""
    if guarding.error() is not None:
        return "withheld"
    return "open" if guarding.about()["verdict"] == "open" else "served"


def first_words(task: str) -> str:
    """At most six words of it, at most 60 characters, on one line."""
    words = printable(" ".join(task[: 20 * CHARACTERS].split()[:WORDS]), one_line=True)
    return words[:CHARACTERS]
