"""vLLM's metrics name planners, and do not grow with swaps."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from s3lora_serve.engine.port import Sampling
from s3lora_serve.engine.vllm.vllm_metrics import by_planner

QUESTION = [{"role": "user", "content": "Who directed Inception?"}]


def test_slots_of_one_planner_are_counted_together():
    """Old and new revision run beside each other during a drain; a name without a digest stays."""
    slots = {"q@000000000001": 1, "p@000000000001": 2, "p@000000000002": 3, "base": 4}
    assert list(by_planner(slots).items()) == [("base", 4), ("p", 5), ("q", 1)]


async def info_lines(engine):
    """The series of what runs and waits, as a scrape shows them."""
    import httpx

    transport = httpx.ASGITransport(engine.openai_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://engine") as http:
        text = (await http.get("/metrics")).text
    return [line for line in text.splitlines() if line.startswith("vllm:lora_requests_info{")], len(text)


@pytest.mark.engine
async def test_two_hundred_swaps_leave_one_series(vllm_engine):
    """Each swap brings a slot's name that was never seen; the page of metrics does not grow."""
    (theirs,) = [
        logger
        for logger in vllm_engine._client.logger_manager.stat_loggers
        if hasattr(logger, "gauge_lora_info")
    ]
    stats = SimpleNamespace(**vars(_empty_stats()))
    sizes = []
    for swap in range(200):
        stats.running_lora_adapters = {f"p@{swap:012d}": 1, f"p@{swap + 1:012d}": 2, f"q@{swap:012d}": 1}
        stats.waiting_lora_adapters = {f"p@{swap + 1:012d}": 1}
        theirs.record(stats, None)
        if swap % 50 == 0:
            lines, size = await info_lines(vllm_engine)
            assert [line.rpartition(" ")[0] for line in lines] == [_line("p,q", "p")]
            sizes.append(size)
    assert max(sizes) - min(sizes) < 100  # bytes
    theirs.record(_empty_stats(), None)


@pytest.mark.engine
async def test_a_request_shows_under_its_planners_name(vllm_engine, adapter, new_slot):
    """Not under its slot's; and no longer once it has ended."""
    slot = new_slot(adapter(seed=5))
    await vllm_engine.load(slot)
    sampling = Sampling(max_tokens=200, temperature=1.0)
    asking = asyncio.create_task(vllm_engine.chat(QUESTION, slot, sampling))
    try:
        async with asyncio.timeout(60):
            while _running(await info_lines(vllm_engine)) != "test":
                await asyncio.sleep(0.01)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await vllm_engine.unload(slot)
    await vllm_engine.score([1, 2, 3], None)
    assert _running(await info_lines(vllm_engine)) == ""


def _empty_stats():
    from vllm.v1.metrics.stats import SchedulerStats

    return SchedulerStats()


def _line(running, waiting):
    return (
        f'vllm:lora_requests_info{{max_lora="4",running_lora_adapters="{running}",'
        f'waiting_lora_adapters="{waiting}"}}'
    )


def _running(scrape):
    lines, _ = scrape
    assert len(lines) <= 1
    return lines[0].split('running_lora_adapters="')[1].partition('"')[0] if lines else ""
