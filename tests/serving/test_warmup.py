"""Planners' own tools are compiled before the first request, and again after a restart."""

from __future__ import annotations

import asyncio

import pytest
from fleet_factory import desired
from orders import order

from planners import ToolSpec, plan_grammar
from s3lora_serve.serving import warmup

SEARCH, LLM = ToolSpec(name="Search"), ToolSpec(name="LLM")
SAMPLES = len(warmup.SAMPLES)  # compiled though no planner has them, for what all others share with them


@pytest.fixture
def grammars(monkeypatch):
    """The grammars that any fake engine was sent, in order."""
    from s3lora_serve.engine.fake.fake_engine import FakeEngine

    seen, chat = [], FakeEngine.chat

    async def watched(engine, messages, slot, sampling):
        if sampling.grammar:
            seen.append(sampling.grammar)
        return await chat(engine, messages, slot, sampling)

    monkeypatch.setattr(FakeEngine, "chat", watched)
    return seen


async def test_each_set_is_compiled_once_at_the_start(fleet_of, grammars):
    """Two planners with the same tools in another order share one grammar; one without tools has none."""
    fleet = fleet_of("p", "q", "r")
    fleet.desired["p"] = desired("p", tools=(SEARCH, LLM))
    fleet.desired["q"] = desired("q", tools=(LLM, SEARCH))
    await fleet.start()
    assert (grammars[0], len(set(grammars))) == (plan_grammar((SEARCH, LLM), 8), len(grammars))
    assert len(grammars) == 1 + SAMPLES
    assert (fleet.service.get("p").tools, fleet.service.get("r").tools) == ((SEARCH, LLM), ())


async def test_a_new_engine_compiles_them_again(fleet_of, grammars):
    """An engine that was restarted has no grammar of the one before."""
    fleet = fleet_of("p")
    fleet.desired["p"] = desired("p", tools=(SEARCH,))
    await fleet.start()
    fleet.engine.die()
    while len(grammars) < 2 * (1 + SAMPLES):
        await asyncio.sleep(0.001)
    assert (grammars[0], grammars[: 1 + SAMPLES]) == (plan_grammar((SEARCH,), 8), grammars[1 + SAMPLES :])


async def test_tools_that_an_edit_brings_are_compiled(fleet_of, grammars):
    """Other tools change nothing about the revision, and are warm after the apply."""
    fleet = await fleet_of("p").start()
    wanted = {"p": desired("p", tools=(LLM,))}
    before = fleet.service.get("p").revision
    done = await fleet.done(await fleet.control.apply(wanted, order()))
    while len(grammars) < SAMPLES + 1:
        await asyncio.sleep(0.001)
    assert (done.step.value, fleet.service.get("p").tools, fleet.service.get("p").revision) == (
        "done", (LLM,), before,
    )  # fmt: skip
    assert grammars[SAMPLES:] == [plan_grammar((LLM,), 8)]


async def test_a_grammar_that_does_not_compile_keeps_nobody_from_serving(fleet_of, monkeypatch):
    """It is the request's error, should one come; the planner answers all others."""
    from s3lora_serve.engine.fake.fake_engine import FakeEngine
    from s3lora_serve.errors import EngineRefused

    chat = FakeEngine.chat

    async def refuses(engine, messages, slot, sampling):
        if sampling.grammar:
            raise EngineRefused("the grammar is too large")
        return await chat(engine, messages, slot, sampling)

    monkeypatch.setattr(FakeEngine, "chat", refuses)
    fleet = fleet_of("p")
    fleet.desired["p"] = desired("p", tools=(SEARCH,))
    await fleet.start()
    assert await fleet.service.ready()
