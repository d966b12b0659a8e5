"""A dead engine is noticed, closed and replaced, and counts as there only once it holds what it should."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest
from fake_starts import FakeStarts
from faulty_engine import FaultyEngine

from s3lora_serve.errors import EngineDead, EngineError
from s3lora_serve.serving.engine_supervisor import BACKOFF, EngineSupervisor


async def until(true):
    """Return once ``true()`` holds. Raises TimeoutError after 60 s."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


@pytest.fixture
def starts():
    """Makes the engines."""
    return FakeStarts()


@pytest.fixture
def host_of(starts):
    """``host_of()``: within, a started host that polls fast and does not wait; ``pauses`` are its waits."""

    @contextlib.asynccontextmanager
    async def running(**options):
        pauses = []

        async def sleep(seconds):
            pauses.append(seconds)
            await asyncio.sleep(0)

        host = EngineSupervisor(starts, poll_seconds=0.001, sleep=sleep, **options)
        host.pauses = pauses
        await host.start()
        try:
            yield host
        finally:
            await host.close()

    return running


async def test_it_starts_and_closes_an_engine(starts, host_of):
    """Between start and close the engine is current; before and after there is none."""
    with pytest.raises(EngineDead, match="it was not started"):
        EngineSupervisor(starts).current  # noqa: B018
    async with host_of() as host:
        assert (host.current, host.alive, host.restarts, host.down_reason) == (starts.current, True, 0, "")
    assert (starts.current.alive, host.alive, host.down_reason) == (False, False, "it was stopped")
    with pytest.raises(EngineDead, match="does not run: it was stopped"):
        host.current  # noqa: B018
    await host.close()


async def test_a_first_start_that_fails_says_why(starts):
    """The error of the start leaves as it is, and nothing is tried again."""
    starts.fail_next(1, EngineError("no room"))
    host = EngineSupervisor(starts)
    with pytest.raises(EngineError, match="no room"):
        await host.start()
    assert (host.alive, starts.calls) == (False, 1)


async def test_a_dead_engine_is_replaced(starts, host_of):
    """The subscriber hears of the loss at once and of the new engine, which is alive only after that."""
    seen = []
    async with host_of() as host:
        first = starts.current

        def down(reason):
            with pytest.raises(EngineDead, match=f"{reason}; it is being restarted"):
                host.current  # noqa: B018
            seen.append(("down", host.alive, reason))

        async def up(engine):
            assert host.current is engine
            assert not first.alive
            seen.append(("up", host.alive, host.restarts))

        host.subscribe(down=down, up=up)
        first.die()
        await until(lambda: host.alive and host.restarts)
        assert host.current is starts.current is not first
    assert seen == [("down", False, "it died; its log names the cause"), ("up", False, 1)]


async def test_starts_that_fail_are_tried_again_with_growing_pauses(starts, host_of):
    """For ever, the last pause repeating; meanwhile the reason is that of the last attempt."""
    async with host_of(backoff=(0, 1, 2)) as host:
        starts.fail_next(4, EngineError("no memory"))
        gate = starts.hold()
        starts.current.die()
        await until(lambda: gate.waiting)
        assert not host.alive
        gate.open()
        await until(lambda: host.alive)
        assert (host.pauses, host.restarts, host.down_reason) == ([0, 1, 2, 2, 2], 1, "")


async def test_the_reason_is_that_of_the_last_attempt(starts, host_of):
    """Requests while the engine is down are refused with why it does not come back."""
    async with host_of() as host:
        starts.fail_next(10**6, EngineError("no memory"))
        starts.current.die()
        await until(lambda: starts.calls > 3)
        assert host.down_reason == "it could not be restarted: no memory"
        with pytest.raises(EngineDead, match="no memory; it is being restarted: try again in a moment"):
            host.current  # noqa: B018


async def test_an_engine_that_dies_soon_again_counts_as_a_failure(starts, host_of):
    """Deaths in a row make pauses grow, since none lived as long as the longest pause."""
    async with host_of(backoff=(0, 1, 60)) as host:
        for death in range(1, 5):
            starts.current.die()
            await until(lambda death=death: host.alive and host.restarts == death)
        assert host.pauses == [0, 1, 60, 60]


async def test_an_engine_that_lived_long_is_replaced_at_once(starts, host_of):
    """A death long after the last one starts with the shortest pause again."""
    async with host_of(backoff=(0, 0.01)) as host:
        for death in range(1, 4):
            await asyncio.sleep(0.02)
            starts.current.die()
            await until(lambda death=death: host.alive and host.restarts == death)
        assert host.pauses == [0, 0, 0]


async def test_an_engine_that_cannot_be_brought_back_is_given_up(starts, host_of):
    """The subscriber's error, or a death meanwhile, closes that engine, tells of it, and tries another."""
    losses, tried = [], []

    async def up(engine):
        tried.append(engine)
        if len(tried) == 1:
            raise EngineError("nothing loads")
        if len(tried) == 2:
            engine.die()
            await asyncio.sleep(3600)
        if len(tried) == 3:
            raise asyncio.CancelledError

    async with host_of() as host:
        host.subscribe(down=losses.append, up=up)
        starts.current.die()
        await until(lambda: host.alive and host.restarts)
        assert [engine.alive for engine in starts.engines] == [False, False, False, False, True]
        assert [loss.partition(": ")[2] for loss in losses] == [
            "",
            "nothing loads",
            "meanwhile it died; its log names the cause",
            "bringing it back was cancelled",
        ]
        assert host.restarts == 4


async def test_a_subscriber_that_fails_keeps_nothing_down(starts, host_of):
    """An error on hearing of the loss is logged, and the engine is replaced."""

    def down(_):
        raise RuntimeError("defect")

    async def up(_):
        pass

    async with host_of() as host:
        host.subscribe(down=down, up=up)
        starts.current.die()
        await until(lambda: host.alive and host.restarts)


async def test_an_engine_that_cannot_be_closed_is_left_behind(starts, host_of):
    """What a dead engine raises on close does not keep the next one from starting."""

    async def close():
        raise OSError("gone")

    async with host_of() as host:
        starts.current.close = close
        starts.current.die()
        await until(lambda: host.alive and host.restarts)


async def test_closing_gives_up_a_restart(starts, host_of):
    """A host that is closed while an engine starts leaves no engine and starts no other."""
    async with host_of() as host:
        gate = starts.hold()
        starts.current.die()
        await until(lambda: gate.waiting)
        await host.close()
        gate.open()
        await asyncio.sleep(0.01)
        assert (len(starts.engines), host.alive) == (1, False)


async def test_closing_as_the_lost_engine_ends_starts_no_other(starts, host_of):
    """The order to stop is not lost where it comes in the moment in which the dead engine has been closed."""
    async with host_of() as host:
        closing = []

        async def close():
            closing.append(asyncio.ensure_future(host.close()))

        starts.hold()
        starts.current.close = close
        starts.current.die()
        await until(lambda: closing)
        async with asyncio.timeout(20):
            await closing[0]
        assert (len(starts.engines), host.alive) == (1, False)


def test_the_usual_pauses_grow_from_none():
    """The first attempt is made at once, and no pause is longer than the last."""
    assert BACKOFF[0] == 0
    assert sorted(BACKOFF) == list(BACKOFF)


async def test_the_kind_of_engine_is_known_while_there_is_none(starts, host_of):
    """From the first start on, also while the next engine is awaited; before it, asking raises EngineDead."""
    with pytest.raises(EngineDead):
        EngineSupervisor(starts).kind  # noqa: B018
    async with host_of() as host:
        assert host.kind == "fake"
        starts.hold()
        starts.current.die()
        await until(lambda: not host.alive)
        assert host.kind == "fake"


@pytest.mark.parametrize("frozen", [False, True])
async def test_nothing_holds_a_replaced_engine(frozen):
    """Once another one runs the lost engine is freed, and not when Python next looks for cycles.

    Also if it was frozen, as vLLM's app does at its start: what runs is frozen again.
    """
    gc.unfreeze()  # what another test's application froze in this process
    made = []

    async def start():
        engine = FaultyEngine()
        engine.myself = engine  # a cycle, as clients of engines have
        made.append(weakref.ref(engine))
        return engine

    host = EngineSupervisor(start, backoff=(0.0,), poll_seconds=0.001)
    await host.start()
    up = asyncio.Event()

    async def bring_back(engine):
        up.set()

    host.subscribe(down=lambda reason: None, up=bring_back)
    if frozen:
        gc.freeze()
    host.current.kill()
    gc.disable()
    try:
        await until(lambda: up.is_set() and host.alive)
        await asyncio.sleep(0)
        lost, running = (one() for one in made)
        assert (gc.get_freeze_count() > 0) is frozen
    finally:
        gc.unfreeze()
        gc.enable()
        await host.close()
    assert lost is None
    assert running is not None
