"""What a vLLM that was killed or hangs leaves to its callers, and that another one takes its place."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from contextlib import suppress

import psutil
import pytest
from contract import HELLO, TOKENS, distance, until
from dictated import STRONG, endless
from engine_factory import engine_settings
from stream_contract import drain

from s3lora_serve.engine.vllm.vllm_engine import VllmEngine
from s3lora_serve.errors import EngineDead
from s3lora_serve.serving.engine_supervisor import EngineSupervisor


class Ticker:
    """Counts the turns of the event loop in which it could have answered a request, 10 ms apart."""

    def __init__(self):
        self.turns = 0
        self.longest = 0.0  # seconds between two turns, shown in the test's output

    async def run(self):
        clock = asyncio.get_running_loop().time
        last = clock()
        while True:
            await asyncio.sleep(0.01)
            self.turns += 1
            self.longest, last = max(self.longest, clock() - last), clock()


def signal_engine(others, number):
    """Send a signal to the engine's own process, which its workers do not outlive."""
    for process in set(multiprocessing.active_children()) - others:
        os.kill(process.pid, number)


def processes_since(before):
    """vLLM's processes that were started since."""
    now = set(psutil.Process().children(recursive=True)) - before
    return [process for process in now if process.name().startswith("VLLM")]


@pytest.mark.engine
async def test_a_stopped_engine_is_killed_and_replaced(demo_base, adapter, new_slot, monkeypatch):
    """Stopped altogether under requests, which fail, and then, idle, a worker alone: no process stays, and
    another engine serves. While it is well it is left alone, also through a load.
    """
    monkeypatch.setattr("s3lora_serve.serving.watchdog.PROBE_SECONDS", 1.0)
    before = set(psutil.Process().children(recursive=True))
    host = EngineSupervisor(
        lambda: VllmEngine.start(engine_settings(demo_base, max_model_len=256)), watchdog_seconds=5
    )
    lost, slots = [], []

    async def up(engine):
        slots.append(new_slot(adapter(seed=1, strength=STRONG)))
        await engine.load(slots[-1])

    host.subscribe(down=lost.append, up=up)

    async def killed(engines):
        async with asyncio.timeout(120):
            while not lost:
                await asyncio.sleep(0.05)
        assert psutil.wait_procs(engines, timeout=60)[1] == []
        return lost.pop()

    try:
        await host.start()
        engine = host.current
        await up(engine)
        facts, engines = [], processes_since(before)
        engine.observe(facts.append)
        # For longer than the limit, with more signs than outputs: each step is one.
        await engine.chat(HELLO, slots[-1], endless(200))
        signs = engine.progress().signs
        await until(lambda: engine.progress().signs >= signs + 3)  # probes
        running = asyncio.create_task(engine.chat(HELLO, slots[-1], endless(200)))
        reading = asyncio.create_task(drain(engine.stream(HELLO, slots[-1], endless(200))))
        await until(lambda: engine.running(slots[-1]) == 2)
        assert (signs > 100, lost) == (True, [])
        for process in engines:
            process.suspend()
        for call in (running, reading):
            with pytest.raises(EngineDead):
                await asyncio.wait_for(call, timeout=120)
        assert (await engine.healthy(), [f.outcome for f in facts]) == (False, ["ok", "error", "error"])
        assert "2 requests in it" in await killed(engines)
        async with asyncio.timeout(300):
            while not host.alive:
                await asyncio.sleep(0.05)
        assert await host.current.loaded() == {slots[-1].id}

        engines = processes_since(before)
        (worker,) = (process for process in engines if "Worker" in process.name())
        worker.suspend()
        assert "a probe unanswered" in await killed(engines)
    finally:
        await host.close()
    assert psutil.wait_procs(processes_since(before), timeout=60)[1] == []


@pytest.mark.engine
async def test_a_killed_engine_is_dead_and_is_replaced(demo_base, adapter, new_slot):
    """Everything under way fails, health turns False, no process stays; then another engine serves the same,
    until it is closed under a request, which fails, too.

    While one lives, each of its processes leads its own group. While one starts, the event loop goes on:
    a server answers its probes.
    """
    others = set(multiprocessing.active_children())  # the session's engine may run beside this one
    before = set(psutil.Process().children(recursive=True))
    host = EngineSupervisor(lambda: VllmEngine.start(engine_settings(demo_base, max_model_len=256)))
    ticker, lost, slot = Ticker(), [], new_slot(adapter(seed=1, strength=STRONG))
    ticking = asyncio.create_task(ticker.run())
    try:
        await host.start()
        engine = host.current
        facts = []
        engine.observe(facts.append)
        await engine.load(slot)
        expected = await engine.score(TOKENS, slot)
        running = asyncio.create_task(engine.chat(HELLO, slot, endless(200)))
        reading = asyncio.create_task(drain(engine.stream(HELLO, slot, endless(200))))
        await until(lambda: engine.running(slot) == 2)
        processes = set(psutil.Process().children(recursive=True)) - before
        engines = [process for process in processes if process.name().startswith("VLLM")]
        # A Ctrl-C is for the server alone, which lets running requests end before it closes the engine.
        assert len(engines) >= 2
        assert [os.getpgid(process.pid) for process in engines] == [process.pid for process in engines]

        again = new_slot(adapter(seed=1, strength=STRONG))

        async def bring_back(engine):
            await engine.load(again)

        host.subscribe(down=lost.append, up=bring_back)
        signal_engine(others, signal.SIGSTOP)  # so that the load is under way when the engine dies
        loading = asyncio.create_task(engine.load(new_slot(adapter(seed=2))))
        await asyncio.sleep(0.2)
        signal_engine(others, signal.SIGKILL)
        for call in (running, reading, loading):
            with pytest.raises(EngineDead, match="try again once it was restarted"):
                await asyncio.wait_for(call, timeout=60)
        assert [(f.slot, f.outcome) for f in facts] == [(slot.name, "ok"), *[(slot.name, "error")] * 2]
        assert (await engine.healthy(), engine.running(slot)) == (False, 0)
        for call in (engine.load(slot), engine.unload(slot), engine.loaded(), engine.score(TOKENS, None)):
            with pytest.raises(EngineDead):
                await asyncio.wait_for(call, timeout=60)
        await until(lambda: lost)
        assert (host.alive, psutil.wait_procs(engines, timeout=60)[1]) == (False, [])

        turns, ticker.longest = ticker.turns, 0.0
        async with asyncio.timeout(300):
            while not host.alive:
                await asyncio.sleep(0.05)
        # A start takes seconds; a loop that is blocked through it turns a handful of times.
        assert ticker.turns - turns > 100
        assert host.current is not engine
        assert await host.current.loaded() == {again.id}
        assert distance(expected, await host.current.score(TOKENS, again)) < 0.5
        print(f"longest pause of the event loop: {ticker.longest:.3f} s")

        last = host.current
        running = asyncio.create_task(last.chat(HELLO, again, endless(200)))
        await until(lambda: last.running(again) == 1)
        await host.close()
        with pytest.raises(EngineDead):
            await asyncio.wait_for(running, timeout=60)
    finally:
        await host.close()
        ticking.cancel()
        with suppress(asyncio.CancelledError):
            await ticking
    left = set(psutil.Process().children(recursive=True)) - before
    engines = [process for process in left if process.name().startswith("VLLM")]
    assert psutil.wait_procs(engines, timeout=60)[1] == []
