"""What a cache that is far too small does to requests that come, are cancelled and wait for each other."""

from __future__ import annotations

import asyncio
import random

import pytest
from contract import HELLO
from dictated import STRONG, endless
from engine_factory import engine_settings

from s3lora_serve.engine.port import Completion, Sampling
from s3lora_serve.engine.vllm.vllm_engine import VllmEngine

LENGTH, BLOCK = 128, 32
SAID = "The last boat came home."
SAY = Sampling(max_tokens=len(SAID) + 1, grammar=f'root ::= "{SAID}"')
# The one more is vLLM's own, which holds nothing: a request of LENGTH tokens needs every other.
BLOCKS = LENGTH // BLOCK + 1


@pytest.mark.engine
async def test_cancels_under_pressure_leave_nothing_behind(demo_base, adapter, new_slot):
    """A cache for one long request is asked for ten at a time, on two slots and the base model, and half
    of them are cancelled in the queue, in mid-answer or while they are pre-empted: the others are answered
    whole, each slot is free and can be unloaded at once, and the cache is: one request still gets all of it.
    """
    rng = random.Random(5)
    settings = engine_settings(
        demo_base,
        max_model_len=LENGTH,
        max_loras=2,
        extra_args={"block_size": BLOCK, "num_gpu_blocks_override": BLOCKS},
    )
    engine = await VllmEngine.start(settings)
    try:
        async with asyncio.timeout(240):
            for round_ in range(2):
                slots = [new_slot(adapter(seed=2 * round_ + n, strength=STRONG)) for n in range(2)]
                for slot in slots:
                    await engine.load(slot)
                targets = [rng.choice((*slots, None)) for _ in range(5)]
                stay = [asyncio.create_task(engine.chat(HELLO, target, SAY)) for target in targets]
                leave = [asyncio.create_task(engine.chat(HELLO, target, endless(80))) for target in targets]
                for task in leave:
                    await asyncio.sleep(rng.uniform(0, 0.3))
                    task.cancel()
                answers = await asyncio.gather(*stay)
                assert [answer.text for answer in answers] == [SAID] * len(targets)
                gone = await asyncio.gather(*leave, return_exceptions=True)
                assert any(isinstance(result, asyncio.CancelledError) for result in gone)
                assert all(isinstance(result, Completion | asyncio.CancelledError) for result in gone)
                assert [engine.running(slot) for slot in slots] == [0, 0]
                for slot in slots:
                    await engine.unload(slot)
            assert await engine.loaded() == set()
            whole = await engine.chat(HELLO, None, endless(LENGTH))
            assert whole.facts.prompt_tokens + whole.facts.output_tokens == LENGTH
            assert engine.progress().running == 0
    finally:
        await engine.close()
