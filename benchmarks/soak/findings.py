"""What the journal says, and which requests and orders do not fit it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from faults import Outage
    from orders_given import Given
    from requests_made import Outcome

GRACE = 2.0  # seconds: an entry is written before the flip that it decides
# Refusals that name what to do, and that a client meets on a server that is well, too.
NAMED = {"overloaded", "slots_busy", "plan_incomplete"}
# What is no name: the answer was broken off, or says that the server itself failed.
NAMELESS = {"", "None", "internal_error", "cut_short"}
ENDINGS = (".done", ".failed", ".crashed", ".undone", ".cancelled", ".checked")


@dataclass
class Span:
    """From when until when a revision may have answered."""

    digest: str
    since: float
    until: float = float("inf")


def spans(entries: Sequence[Mapping[str, Any]], planner: str, first: str) -> list[Span]:
    """Which revisions the planner may have answered from, by the journal, oldest entry first.

    ``first`` is what served when the entries begin.
    """
    active, candidate = Span(first, 0.0), None
    found = [active]
    for entry in entries:
        if entry["planner"] != planner or not entry["action"].endswith(".flipped"):
            continue
        at, goal = datetime.fromisoformat(entry["at"]).timestamp(), entry["to_digest"]
        if candidate is not None:  # each flip ends a trial, or begins another
            candidate.until, candidate = at, None
        if entry["action"].startswith(("canary.", "shadow.")):
            candidate = Span(goal, at)
            found.append(candidate)
        elif goal is not None and goal != active.digest:
            active.until = at
            active = Span(goal, at)
            found.append(active)
    return found


def stale(outcomes: Iterable[Outcome], by_planner: Mapping[str, Sequence[Span]]) -> list[Outcome]:
    """Answers of a revision that neither served nor was tried while the request ran."""
    return [
        outcome
        for outcome in outcomes
        if outcome.revision
        and not any(
            span.digest.startswith(outcome.revision)
            and span.since <= outcome.ended
            and span.until + GRACE >= outcome.started
            for span in by_planner[outcome.planner]
        )
    ]


def failed(outcomes: Iterable[Outcome], outages: Sequence[Outage]) -> list[Outcome]:
    """Requests that failed, but for named refusals, and for what ran while the engine was down or hung.

    The latter must have been told so by the server: a code, whatever the status.
    """

    def excused(outcome: Outcome) -> bool:
        if outcome.code in NAMED:
            return True
        return (
            outcome.status != 0
            and outcome.code not in NAMELESS
            and any(
                outage.began <= outcome.ended and (outage.ended or float("inf")) + GRACE >= outcome.started
                for outage in outages
            )
        )

    return [outcome for outcome in outcomes if not outcome.ok and not excused(outcome)]


def lost(given: Iterable[Given], entries: Sequence[Mapping[str, Any]]) -> list[Given]:
    """Acknowledged orders whose beginning or end the journal does not have."""
    begun = {entry["operation"] for entry in entries if entry["action"].endswith(".begun")}
    ended = {entry["operation"] for entry in entries if entry["action"].endswith(ENDINGS)}
    return [order for order in given if order.id and not (order.id in begun and order.id in ended)]


def unbroken(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no entry is missing: numbers rise by one, and each names the hash before it."""
    return all(
        later["seq"] == entry["seq"] + 1 and later["previous_hash"] == entry["hash"]
        for entry, later in itertools.pairwise(entries)
    )
