"""What one request brought, and what is wrong with it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from telltale import Words

# The planners and their revisions. Two are swapped; the third never, its stream shows what swaps cost others.
REVISIONS_OF = {"alpha": tuple(range(7)), "beta": tuple(range(7, 14)), "gamma": (14,)}
SWAPPED = ("alpha", "beta")

Verdict = Literal["ok", "failed", "stale", "mixed", "foreign"]


@dataclass
class Answer:
    """One streamed answer. Times are of the monotonic clock, seconds."""

    client: str
    planner: str | None  # None: the base model was asked
    phase: str
    started: float
    ended: float = 0.0
    status: int = 0  # of HTTP; 0: no answer came
    text: str = ""
    error: str = ""
    leased: str = ""  # the digest that the server named, if it names any
    chunks: list[float] = field(default_factory=list)  # arrival times of text

    def brief(self) -> dict[str, Any]:
        """What is kept of a bad answer."""
        kept = ("client", "planner", "phase", "started", "ended", "status", "error", "leased")
        return {name: getattr(self, name) for name in kept} | {"text": self.text[:400]}


@dataclass
class Span:
    """From when until when a revision may rightly answer, as far as the caller of the swaps can know."""

    revision: int
    since: float
    until: float = float("inf")


class Timeline:
    """Which revisions a planner may have served when."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def ordered(self, revision: int, at: float) -> Span:
        """A swap is ordered: from now on ``revision`` may answer, and what served before may, too."""
        span = Span(revision, at)
        self._spans.append(span)
        return span

    def flipped(self, span: Span, at: float) -> None:
        """The server has said that the span's revision serves: whatever begins from now on must be its."""
        for other in self._spans:
            if other is not span:
                other.until = min(other.until, at)

    def refused(self, span: Span, at: float) -> None:
        """The server has said that the swap failed, and that what served before still does."""
        span.until = at

    def possible(self, started: float, ended: float) -> set[int]:
        """Revisions that may rightly answer a request that ran from ``started`` to ``ended``."""
        return {span.revision for span in self._spans if span.since <= ended and span.until >= started}


def judge(answer: Answer, words: Words, possible: set[int], leased: int | None) -> Verdict:
    """What is wrong with the answer, the worst first.

    ``possible`` is as ``Timeline.possible`` says; ``leased`` is the revision that the server named, if any.

    *failed*: no whole answer. *foreign*: words of no revision of this planner. *mixed*: two revisions in one
    answer, one of them perhaps through the KV cache. *stale*: one revision throughout, but not the one that
    the server says it leased, or one that no longer served when the request began.
    """
    # Dummy weights of the base model may say nothing but special tokens, which leave no text.
    silent = answer.planner is not None and not answer.text.strip()
    if answer.error or answer.status != 200 or silent:
        return "failed"
    pairs = [words.meaning.get(word) for word in answer.text.split()]
    if answer.planner is None:
        # Ordinary text may hold one of the words, but not one after the other.
        doubled = any(one and two for one, two in itertools.pairwise(pairs))
        return "foreign" if doubled else "ok"
    found = {revision for pair in pairs if pair for revision in pair}
    if None in pairs or not found <= set(REVISIONS_OF[answer.planner]):
        return "foreign"
    if len(found) > 1:
        return "mixed"
    if not found <= possible or (leased is not None and found != {leased}):
        return "stale"
    return "ok"
