"""A shadow takes its share and nothing else: it costs answered requests no time, exception or memory."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planners import Plan, PlanMeta, PlanStep, Timings, Usage
from s3lora_serve.serving.shadow import Rerun, ShadowRunner, ShadowStats

ANSWER = Rerun("yes", tokens=3, seconds=0.5)


async def same():
    """A candidate that answers as the original did, a little cheaper."""
    return Rerun("yes", tokens=2, seconds=0.25)


def runner(share=1.0, **options):
    """A runner whose choices are the same every time."""
    return ShadowRunner(share, rng=random.Random(7), **options)


async def test_cost_and_agreement_of_both_sides():
    """Texts are compared exactly, tools by name and order; costs are summed for each side."""
    shadow = runner()
    plan = Rerun("plan", 10, 1.0, tools=("search", "sum"))
    answers = [
        (plan, Rerun("plan", 10, 2.0, tools=("search", "sum"))),
        (plan, Rerun("other words", 20, 2.0, tools=("search", "sum"))),
        (plan, Rerun("other order", 10, 2.0, tools=("sum", "search"))),
        (plan, Rerun("no plan", 10, 2.0)),
        (ANSWER, Rerun("no", 1, 2.0)),
    ]
    for original, answer in answers:
        assert shadow.run(original, lambda answer=answer: asyncio.sleep(0, answer))
        await shadow.settle()
    assert shadow.stats == ShadowStats(
        offered=5,
        runs=5,
        same_text=1,
        plans=4,
        same_tools=2,
        tokens=43,
        candidate_tokens=51,
        seconds=4.5,
        candidate_seconds=10.0,
    )
    assert (shadow.stats.text_agreement, shadow.stats.tool_agreement) == (0.2, 0.5)


def test_no_agreement_before_the_first_run():
    """Nothing measured is neither full agreement nor none; the report is plain JSON."""
    report = ShadowStats().to_json()
    assert (report["text_agreement"], report["tool_agreement"], report["runs"]) == (None, None, 0)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=300), seed=st.integers(0, 100))
def test_the_share_is_kept_to_within_one(shares, seed):
    """However the share changes on the way, what is taken is never off by more than one request."""
    shadow = ShadowRunner(0, rng=random.Random(seed))
    taken = 0
    for share in shares:
        shadow.share = share
        taken += shadow._in_share()
    assert abs(taken - sum(shares)) < 1 + 1e-9


def test_a_rhythm_is_not_followed():
    """Of a client's ten calls an episode every one gets its turn at a tenth, not always the same."""
    shadow = runner(0.1)
    taken = [number % 10 for number in range(2000) if shadow._in_share()]
    assert set(taken) == set(range(10))


async def test_a_busy_candidate_gets_no_queue():
    """While one runs the others are dropped, so that what is held stays bounded."""
    shadow, release = runner(concurrency=2), asyncio.Event()

    async def wait():
        await release.wait()
        return ANSWER

    assert [shadow.run(ANSWER, wait) for _ in range(5)] == [True, True, False, False, False]
    assert (shadow.stats.offered, shadow.stats.dropped, shadow.stats.runs) == (5, 3, 0)
    release.set()
    await shadow.settle()
    assert shadow.run(ANSWER, same)
    await shadow.settle()
    assert (shadow.stats.dropped, shadow.stats.runs) == (3, 3)


async def test_the_caller_does_not_wait():
    """The candidate is not even called before the caller goes on."""
    shadow, called = runner(), []

    async def note():
        called.append(True)
        return ANSWER

    shadow.run(ANSWER, note)
    assert called == []
    await shadow.settle()
    assert called == [True]


def raises():
    """Not even a coroutine."""
    raise KeyError("at once")


async def raises_later():
    """A candidate that fails."""
    raise RuntimeError("x" * 1000)


async def answers_nothing():
    """A candidate that breaks its promise."""


async def is_cancelled():
    """A candidate whose own work was cancelled, as an engine does when it goes down."""
    raise asyncio.CancelledError


async def hangs():
    """A candidate that never answers."""
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("rerun", "why"),
    [
        (raises, "KeyError: 'at once'"),
        (raises_later, "RuntimeError: xxx"),
        (answers_nothing, "AttributeError"),
        (is_cancelled, "cancelled by the candidate's side"),
        (hangs, "no answer within 0.01 s"),
    ],
)
async def test_no_trouble_leaves_the_shadow(rerun, why):
    """Whatever the candidate does, the caller sees nothing, it is counted, and the next one has its turn."""
    unhandled = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        shadow = runner(timeout_seconds=0.01)
        assert shadow.run(ANSWER, rerun)
        await shadow.settle()
        assert shadow.run(ANSWER, same)
        await shadow.settle()
    finally:
        loop.set_exception_handler(before)
    assert (shadow.stats.failed, shadow.stats.runs, shadow.stats.same_text) == (1, 1, 1)
    assert shadow.stats.last_error.startswith(why)
    assert len(shadow.stats.last_error) <= 300
    assert unhandled == []


async def test_closing_cancels_what_runs():
    """After it nothing runs and nothing more is taken; what was cut is neither a failure nor a run."""
    ended = []

    async def until_cancelled():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with runner(concurrency=2) as shadow:
        shadow.run(ANSWER, until_cancelled)
        await asyncio.sleep(0)
        shadow.run(ANSWER, until_cancelled)  # closed before it began
    assert ended == [True]
    assert (shadow.stats.cancelled, shadow.stats.failed, shadow.stats.runs) == (2, 0, 0)
    assert shadow.run(ANSWER, same) is False
    assert shadow.stats.offered == 2
    await shadow.close()


async def test_closing_does_not_wait_for_the_stubborn():
    """A run that will not stop delays the end by the grace period only."""
    release = asyncio.Event()

    async def stubborn():
        try:
            await release.wait()
        except asyncio.CancelledError:
            await release.wait()
        return ANSWER

    shadow = runner()
    shadow.run(ANSWER, stubborn)
    await asyncio.sleep(0)
    await shadow.close(grace_seconds=0.01)
    assert shadow.stats.runs == 0
    release.set()
    await shadow.settle()


async def test_every_offer_is_accounted_for():
    """Offers are runs, drops, failures, cancellations or outside the share: none goes missing."""
    rng, shadow = random.Random(3), runner(0.7, concurrency=2, timeout_seconds=0.01)
    outside = 0
    for _ in range(200):
        dropped = shadow.stats.dropped
        started = shadow.run(ANSWER, rng.choice([same, raises, is_cancelled]))
        outside += not started and shadow.stats.dropped == dropped
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    await shadow.settle()
    stats = shadow.stats
    assert stats.offered == 200 == outside + stats.runs + stats.dropped + stats.failed
    assert outside in (60, 61, 59)
    assert min(stats.runs, stats.dropped, stats.failed) > 0


def test_a_plan_brings_its_own_figures():
    """Text, tools and cost are the plan's."""
    steps = (
        PlanStep(id="#E1", thought="Find it.", tool="search", tool_input="a"),
        PlanStep(id="#E2", thought="Add it.", tool="sum", tool_input="#E1"),
    )
    meta = PlanMeta(
        planner="p",
        revision="a" * 64,
        base_model="b",
        usage=Usage(prompt_tokens=9, output_tokens=5),
        timings=Timings(wait_seconds=0.0, total_seconds=1.5),
    )
    plan = Plan(steps=steps, meta=meta)
    assert Rerun.of_plan(plan) == Rerun(plan.to_rewoo(), 5, 1.5, ("search", "sum"))
    assert Rerun.of_plan(Plan(steps=steps)) == Rerun(plan.to_rewoo(), 0, 0.0, ("search", "sum"))


@pytest.mark.parametrize(
    ("share", "options"),
    [(1.1, {}), (-0.1, {}), (float("nan"), {}), (1, {"concurrency": 0}), (1, {"timeout_seconds": 0})],
)
def test_nonsense_is_refused(share, options):
    """Before anything runs, and when the share is changed."""
    with pytest.raises(ValueError, match="must be"):
        ShadowRunner(share, **options)
    if not options:
        with pytest.raises(ValueError, match="must be"):
            runner().share = share
