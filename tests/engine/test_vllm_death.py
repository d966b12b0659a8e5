"""What signals do to the engine's processes, and what is left when they are killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal

import psutil
import pytest
from contract import HELLO, TOKENS
from engine_factory import engine_settings

from s3lora_serve.engine.port import Sampling
from s3lora_serve.engine.vllm import VllmEngine
from s3lora_serve.errors import EngineDead


@pytest.mark.engine
async def test_a_killed_engine_is_dead_and_says_so(demo_base, adapter, new_slot):
    """The running request fails, health turns False, every later call raises EngineDead, no process stays.

    While it lived, each of its processes led a group of its own.
    """
    others = set(multiprocessing.active_children())  # the session's engine may run beside this one
    before = set(psutil.Process().children(recursive=True))
    engine = await VllmEngine.start(engine_settings(demo_base, max_model_len=256))
    try:
        facts = []
        engine.observe(facts.append)
        assert await engine.healthy()
        running = asyncio.create_task(engine.chat(HELLO, None, Sampling(max_tokens=200)))
        await asyncio.sleep(0.2)
        processes = set(psutil.Process().children(recursive=True)) - before
        engines = [process for process in processes if process.name().startswith("VLLM")]
        # A Ctrl-C is for the server alone, which lets running requests end before it closes the engine.
        assert len(engines) >= 2
        assert [os.getpgid(process.pid) for process in engines] == [process.pid for process in engines]
        for process in set(multiprocessing.active_children()) - others:
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(EngineDead, match="restart the process"):
            await asyncio.wait_for(running, timeout=20)
        assert [f.outcome for f in facts] == ["error"]
        assert not await engine.healthy()
        slot = new_slot(adapter(seed=1))
        for call in (engine.load(slot), engine.loaded(), engine.score(TOKENS, None)):
            with pytest.raises(EngineDead):
                await asyncio.wait_for(call, timeout=20)
    finally:
        await engine.close()
    assert not await engine.healthy()
    assert psutil.wait_procs(engines, timeout=20)[1] == []
