"""The soak's judge sees what it is there to see: a table of zeros is worth no more than it."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "soak"


def _loaded(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_soak_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


findings, measured = _loaded("findings"), _loaded("measured")


def entry(seq, action, to=None, *, planner="p", at=None, operation="op-1"):
    """An entry of the journal, at ``at`` seconds."""
    when = datetime.fromtimestamp(seq * 10 if at is None else at, UTC).isoformat()
    return {
        "seq": seq, "action": action, "to_digest": to, "planner": planner, "at": when,
        "operation": operation, "hash": f"h{seq}", "previous_hash": f"h{seq - 1}",
    }  # fmt: skip


def outcome(started, ended, *, revision="", status=200, code="", left=False):
    """A request of planner p."""
    ok = left or (status == 200 and not code)
    return SimpleNamespace(
        planner="p", started=started, ended=ended, revision=revision, status=status, code=code, ok=ok
    )


JOURNAL = [
    entry(1, "swap.flipped", "bbbb"),
    entry(2, "canary.flipped", "cccc"),
    entry(3, "rollback.flipped"),  # gives the candidate up
    entry(4, "rollback.flipped", "aaaa"),
    entry(5, "swap.flipped", "dddd", planner="q"),
]


@pytest.mark.parametrize(
    ("revision", "started", "ended", "is_stale"),
    [
        ("aaaa", 1, 2, False),
        ("aaaa", 5, 30, False),  # it began before the swap
        ("aaaa", 15, 18, True),
        ("bbbb", 15, 18, False),
        ("bbbb", 1, 5, True),  # before it was decided
        ("cccc", 22, 25, False),
        ("bbbb", 22, 25, False),  # beside its candidate
        ("cccc", 35, 38, True),
        ("bbbb", 45, 48, True),
        ("aaaa", 45, 48, False),
        ("dddd", 55, 58, True),  # another planner's
        ("", 15, 18, False),  # no answer
    ],
)
def test_an_answer_is_held_to_what_the_journal_says_served_then(revision, started, ended, is_stale):
    """Active or on trial at any moment of the request; two seconds lie between an entry and its flip."""
    spans = {"p": findings.spans(JOURNAL, "p", "aaaa")}
    asked = outcome(started, ended, revision=revision)
    assert findings.stale([asked], spans) == ([asked] if is_stale else [])


@pytest.mark.parametrize(
    ("asked", "is_failure"),
    [
        (outcome(1, 2), False),
        (outcome(1, 2, left=True, status=0), False),
        (outcome(1, 2, status=429, code="overloaded"), False),
        (outcome(1, 2, status=503, code="engine_dead"), True),  # nothing was done to the engine then
        (outcome(101, 105, status=503, code="engine_dead"), False),
        (outcome(90, 105, status=200, code="engine_dead"), False),  # a stream that the kill ended
        (outcome(101, 105, status=500, code="internal_error"), True),
        (outcome(101, 105, status=200, code="cut_short"), True),
        (outcome(101, 105, status=0, code="ReadError"), True),
        (outcome(150, 155, status=503, code="engine_dead"), True),
    ],
)
def test_a_failure_is_excused_by_a_name_and_an_outage(asked, is_failure):
    """Refusals that are part of the contract always; the engine's death while it was dead, told as such."""
    outages = [SimpleNamespace(began=100.0, ended=120.0)]
    assert findings.failed([asked], outages) == ([asked] if is_failure else [])


def test_an_order_that_the_journal_does_not_know_is_lost():
    """Acknowledged, and not begun there, or never ended."""
    entries = [entry(1, "swap.begun"), entry(2, "swap.done"), entry(3, "swap.begun", operation="op-2")]
    given = [SimpleNamespace(id=name) for name in ("op-1", "op-2", "op-3", "")]
    assert [order.id for order in findings.lost(given, entries)] == ["op-2", "op-3"]


def test_an_entry_that_is_missing_breaks_the_journal():
    """Numbers and hashes follow from each other."""
    assert findings.unbroken(JOURNAL)
    assert not findings.unbroken([*JOURNAL[:2], *JOURNAL[3:]])
    assert not findings.unbroken([*JOURNAL[:2], {**JOURNAL[2], "previous_hash": "other"}])


def test_growth_is_seen_and_a_warm_up_is_not():
    """The first third does not count; what rises through the rest is not flat."""
    times = [float(at) for at in range(0, 900, 5)]
    warm = [min(at, 250.0) for at in times]
    assert measured.trend(times, warm).flat(more=1.0)
    leak = measured.trend(times, [100 + at * 0.1 for at in times])
    assert not leak.flat(more=24.0)
    assert round(leak.per_minute, 3) == 6.0
    with pytest.raises(ValueError, match="too few"):
        measured.trend([0.0, 1.0], [1.0, 1.0])
