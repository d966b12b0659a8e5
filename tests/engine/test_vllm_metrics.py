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


def gauge_of(engine):
    """The engine's own gauge of what runs and waits; another engine of this process may have the registry."""
    loggers = engine._client.logger_manager.stat_loggers
    return next(logger for logger in loggers if hasattr(logger, "gauge_lora_info"))


def told(logger):
    """(running, waiting) of each series."""
    samples = [sample for metric in logger.gauge_lora_info.collect() for sample in metric.samples]
    return [(s.labels["running_lora_adapters"], s.labels["waiting_lora_adapters"]) for s in samples]


@pytest.mark.engine
async def test_two_hundred_swaps_leave_one_series(vllm_engine):
    """Each swap brings a slot's name that was never seen; what is told does not grow."""
    theirs = gauge_of(vllm_engine)
    stats = SimpleNamespace(**vars(_empty_stats()))
    for swap in range(200):
        stats.running_lora_adapters = {f"p@{swap:012d}": 1, f"p@{swap + 1:012d}": 2, f"q@{swap:012d}": 1}
        stats.waiting_lora_adapters = {f"p@{swap + 1:012d}": 1}
        theirs.record(stats, None)
        assert told(theirs) == [("p,q", "p")]
    theirs.record(_empty_stats(), None)


@pytest.mark.engine
async def test_a_request_shows_under_its_planners_name(vllm_engine, adapter, new_slot):
    """Not under its slot's; and no longer once it has ended."""
    slot, theirs = new_slot(adapter(seed=5)), gauge_of(vllm_engine)
    await vllm_engine.load(slot)
    # Long whatever the model would say, so that it is still there when it is looked for.
    sampling = Sampling(max_tokens=200, grammar="root ::= [a-z]{150}")
    asking = asyncio.create_task(vllm_engine.chat(QUESTION, slot, sampling))
    try:
        async with asyncio.timeout(60):
            while [running for running, _ in told(theirs)] != ["test"]:
                await asyncio.sleep(0.01)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await vllm_engine.unload(slot)
    await vllm_engine.score([1, 2, 3], None)
    assert [running for running, _ in told(theirs)] == [""]


def _empty_stats():
    from vllm.v1.metrics.stats import SchedulerStats

    return SchedulerStats()
