"""What a killed vLLM leaves to its callers and to the machine, and that another one takes its place."""

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
