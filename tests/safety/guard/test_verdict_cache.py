"""What the guard remembers, for whom, and who waits for whom."""

from __future__ import annotations

import asyncio

import pytest

from s3lora_serve.safety.guard.verdict_cache import VerdictCache, verdict_key


class Questions:
    """``ask`` waits for ``answer`` and counts."""

    def __init__(self):
        self.begun = self.ended = 0
        self.answer: asyncio.Future = asyncio.get_running_loop().create_future()

    async def ask(self):
        self.begun += 1
        try:
            return await asyncio.shield(self.answer)
        finally:
            self.ended += 1


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_key_tells_tokens_callers_and_conditions_apart():
    """Whatever differs, the key does; it is a digest, and the same for the same."""
    keys = [
        verdict_key(*question)
        for question in (
            ((1, 2), "ann", "base"),
            ((1, 2), "bob", "base"),
            ((1, 2), "", "base"),
            ((1, 2), "ann", "b"),
            ((1, 2, 3), "ann", "base"),
            ((12,), "ann", "base"),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert verdict_key((1, 2), "ann", "base") == keys[0]
    assert all(len(key) == 64 for key in keys)


async def test_a_finding_is_remembered_for_a_while():
    """Up to ``seconds`` nothing is asked again; then it is."""
    clock, questions = Clock(), Questions()
    cache = VerdictCache(10, clock=clock)
    questions.answer.set_result("fine")
    assert await cache.once("k", questions.ask) == ("fine", False)
    clock.now += 9.9
    assert await cache.once("k", questions.ask) == ("fine", True)
    clock.now += 0.1
    assert await cache.once("k", questions.ask) == ("fine", False)
    assert questions.begun == 2


async def test_zero_seconds_remember_nothing():
    """Each asks for itself."""
    cache, questions = VerdictCache(0), Questions()
    questions.answer.set_result("fine")
    assert [await cache.once("k", questions.ask) for _ in range(2)] == [("fine", False)] * 2


async def test_the_least_used_goes_first():
    """There are never more than ``most``."""
    cache, questions = VerdictCache(10, most=2), Questions()
    questions.answer.set_result("fine")
    for key in ("a", "b", "a", "c"):
        await cache.once(key, questions.ask)
    assert [cache.remembered(key) for key in "abc"] == ["fine", None, "fine"]


async def test_a_failure_is_told_to_all_and_not_remembered():
    """Both who wait hear of it, and the next one asks anew."""
    cache, questions = VerdictCache(10), Questions()
    both = [asyncio.create_task(cache.once("k", questions.ask)) for _ in range(2)]
    await asyncio.sleep(0)
    questions.answer.set_exception(RuntimeError("no engine"))
    for task in both:
        with pytest.raises(RuntimeError, match="no engine"):
            await task
    questions.answer = asyncio.get_running_loop().create_future()
    questions.answer.set_result("fine")
    assert await cache.once("k", questions.ask) == ("fine", False)


async def test_equal_questions_share_one_asking():
    """Of two at the same time one asks, and the other is told that it did not; other keys ask themselves."""
    cache, questions = VerdictCache(10), Questions()
    tasks = [asyncio.create_task(cache.once(key, questions.ask)) for key in ("k", "k", "other")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    questions.answer.set_result("fine")
    assert await asyncio.gather(*tasks) == [("fine", False), ("fine", True), ("fine", False)]
    assert questions.begun == 2


@pytest.mark.parametrize("leaver", [0, 1])
async def test_who_leaves_does_not_end_what_another_waits_for(leaver):
    """Neither the one who began it nor the one who joined."""
    cache, questions = VerdictCache(10), Questions()
    tasks = [asyncio.create_task(cache.once("k", questions.ask)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[leaver].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[leaver]
    questions.answer.set_result("fine")
    assert (await tasks[1 - leaver])[0] == "fine"
    assert (questions.begun, questions.ended) == (1, 1)


async def test_the_last_who_leaves_ends_it():
    """It has ended when they have, and who comes then asks anew."""
    cache, questions = VerdictCache(10), Questions()
    tasks = [asyncio.create_task(cache.once("k", questions.ask)) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (questions.begun, questions.ended, cache.remembered("k")) == (1, 1, None)
    questions.answer.set_result("fine")
    assert await cache.once("k", questions.ask) == ("fine", False)


async def test_who_is_in_a_hurry_waits_for_nobody_elses_turn():
    """Another priority asks for itself, since the other question may stand behind many; all find either's."""
    cache, slow, quick = VerdictCache(10), Questions(), Questions()
    later = asyncio.create_task(cache.once("k", slow.ask, 5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    quick.answer.set_result("fine")
    assert await cache.once("k", quick.ask, -5) == ("fine", False)
    assert await cache.once("k", slow.ask, 5) == ("fine", True)
    slow.answer.set_result("fine, too")
    assert await later == ("fine, too", False)
    assert (slow.begun, quick.begun) == (1, 1)
