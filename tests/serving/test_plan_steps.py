"""A plan step by step is the same plan, and a reader that stops stops the engine."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from planners import Plan, PlanMeta, PlannerInput, PlanStep
from s3lora_serve.errors import EngineError, InvalidPlan, LeaseCut, PlanIncomplete, PlanTimeout
from s3lora_serve.serving.planning import PlanOptions

REQUEST = PlannerInput(task="Who?", tools=({"name": "Search"}, {"name": "LLM"}), max_steps=4)
VALID = "Plan: look\n#E1 = Search[who]\nPlan: read\n#E2 = LLM[#E1]"


async def read(service, options=None, seen=None):
    """Every item; ``seen`` gets them as they come."""
    seen = [] if seen is None else seen
    async with aclosing(service.stream_plan(REQUEST, "p", options)) as items:
        async for item in items:
            seen.append(item)
    return seen


@pytest.mark.parametrize("options", [PlanOptions(), PlanOptions(constraint="none")])
async def test_steps_and_meta_are_the_whole_plan(fleet_of, options):
    """All steps in order and one meta at the end: the plan that ``plan`` gives, times aside."""
    fleet = await fleet_of("p").start()
    *steps, meta = await read(fleet.service, options)
    whole = await fleet.service.plan(REQUEST, "p", options)
    assert (tuple(steps), isinstance(meta, PlanMeta)) == (whole.steps, True)
    same = {"cost", "timings"}
    assert meta.model_dump(exclude=same) == whole.meta.model_dump(exclude=same)


async def test_a_step_comes_before_the_next_one_is_written(fleet_of):
    """The first step is there while the engine still writes the second."""
    fleet = await fleet_of("p", seconds_per_token=0.005).start()
    slot = fleet.service.get("p").active.slot
    async with aclosing(fleet.service.stream_plan(REQUEST, "p")) as items:
        first = await anext(items)
        assert (isinstance(first, PlanStep), fleet.running.running(slot)) == (True, 1)


async def test_leaving_early_ends_the_request_and_the_lease(fleet_of):
    """After the reader has left, nothing runs in the engine and no lease is held."""
    fleet = await fleet_of("p", seconds_per_token=0.005).start()
    slot = fleet.service.get("p").active.slot
    async with aclosing(fleet.service.stream_plan(REQUEST, "p")) as items:
        await anext(items)
    assert (fleet.running.running(slot), sum(fleet.service.get("p").leases.values())) == (0, 0)


async def test_a_reader_that_is_cancelled_leaves_nothing_behind(fleet_of):
    """As above, for a task that is cancelled while it waits for a step."""
    fleet = await fleet_of("p", seconds_per_token=0.05).start()
    slot = fleet.service.get("p").active.slot
    task = asyncio.ensure_future(read(fleet.service))
    while not fleet.running.running(slot):
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (fleet.running.running(slot), sum(fleet.service.get("p").leases.values())) == (0, 0)


async def test_a_broken_grammar_stops_the_stream_before_the_bad_step(fleet_of):
    """Good steps may be out; a bad one never is."""
    fleet = await fleet_of("p", plan=lambda request: VALID + "\nPlan: burn\n#E3 = Oven[#E1]").start()
    seen: list[PlanStep] = []
    with pytest.raises(EngineError, match="step #E3 uses 'Oven'"):
        await read(fleet.service, seen=seen)
    assert Plan(steps=tuple(seen)).to_rewoo() == VALID


async def test_a_cut_stream_is_an_error_unless_it_may_be_mended(fleet_of):
    """Cut in the middle of a step: an error at the end, or the meta with the cut counted."""
    rambling = VALID + "\nPlan: and" + " so on" * 500
    fleet = await fleet_of("p", plan=lambda request: rambling, max_model_len=64).start()
    with pytest.raises(PlanIncomplete):
        await read(fleet.service)
    *steps, meta = await read(fleet.service, PlanOptions(repair=True))
    assert (Plan(steps=tuple(steps)).to_rewoo(), meta.repairs, len(meta.repair_notes)) == (VALID, 1, 1)


async def test_time_and_errors_are_those_of_a_whole_plan(fleet_of):
    """PlanTimeout when it takes too long, InvalidPlan without a grammar."""
    fleet = await fleet_of("p", plan=lambda request: "word " * 100, seconds_per_token=0.01).start()
    with pytest.raises(PlanTimeout):
        await read(fleet.service, PlanOptions(seconds=0.05))
    fleet.running.seconds_per_token = 0.0
    with pytest.raises(InvalidPlan):
        await read(fleet.service, PlanOptions(constraint="none"))
    assert sum(fleet.service.get("p").leases.values()) == 0


async def test_a_withdrawn_revision_ends_the_stream(fleet_of):
    """When the drain deadline passes, the reader gets LeaseCut and the engine's request has ended."""
    fleet = await fleet_of("p", seconds_per_token=0.02).start()
    deployment = fleet.service.get("p").active
    task = asyncio.ensure_future(read(fleet.service))
    while not fleet.running.running(deployment.slot):
        await asyncio.sleep(0.001)
    await fleet.service._leases.drained(deployment.key, 0, lambda: True)
    with pytest.raises(LeaseCut):
        await task
    assert fleet.running.running(deployment.slot) == 0
