"""Plans under a guard: judged once, beside their making, and with nothing handed out before."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from scripted_judge import HARM, ScriptedJudge, guards_by

from planners import PlannerInput
from s3lora_serve.errors import InvalidPlan, RefusedByGuard
from s3lora_serve.serving.planning import PlanOptions

REQUEST = PlannerInput(task="Who?", tools=({"name": "Search"}, {"name": "LLM"}), max_steps=4)
HARMFUL = REQUEST.model_copy(update={"task": f"a {HARM}"})


async def test_asking_the_planner_again_asks_no_guard_again(fleet_of):
    """What it is told then is the server's own: the client's text was judged."""
    judge, plans = ScriptedJudge(), iter(("No idea.", "Still none.", "Plan: x\n#E1 = LLM[y]"))
    fleet = await fleet_of("p", guards=guards_by(judge, "p"), plan=lambda prompt: next(plans)).start()
    plan = await fleet.service.plan(REQUEST, "p", PlanOptions(constraint="none", repair=True), caller="ann")
    assert (plan.meta.repairs, plan.meta.guard.verdict, plan.meta.cost.guard_tokens) == (2, "allowed", 7)
    assert [(question.task, caller) for question, caller in judge.asked] == [("Who?", "ann")]


async def test_a_stream_is_made_while_it_is_judged(fleet_of):
    """The engine is done by the time of the verdict, and then all steps come."""
    judge = ScriptedJudge()
    fleet = await fleet_of("p", guards=guards_by(judge, "p")).start()
    ended = []
    fleet.engine.observe(ended.append)
    judge.gate.clear()
    async with aclosing(fleet.service.stream_plan(REQUEST, "p")) as items:
        first = asyncio.ensure_future(anext(items))
        while not ended:
            await asyncio.sleep(0)
        assert not first.done()
        judge.gate.set()
        assert (await first).id == "#E1"
        rest = [item async for item in items]
    assert (rest[0].id, rest[-1].guard.verdict, len(judge.asked)) == ("#E2", "allowed", 1)


async def test_what_went_wrong_is_told_only_of_what_was_allowed(fleet_of):
    """An invalid plan's problems quote it."""
    judge = ScriptedJudge(lambda: 0.01)
    fleet = await fleet_of("p", guards=guards_by(judge, "p"), plan=lambda prompt: "Oven!").start()
    options = PlanOptions(constraint="none")
    with pytest.raises(InvalidPlan):
        await fleet.service.plan(REQUEST, "p", options)
    with pytest.raises(RefusedByGuard) as refused:
        await fleet.service.plan(HARMFUL, "p", options)
    chain = [refused.value.__cause__, refused.value.__context__]
    assert not any(isinstance(error, InvalidPlan) for error in chain)


async def test_a_stream_that_is_closed_ends_its_guard(fleet_of):
    """Before its verdict or after it."""
    judge = ScriptedJudge()
    fleet = await fleet_of("p", guards=guards_by(judge, "p", action="observe")).start()
    judge.gate.clear()
    async with aclosing(fleet.service.stream_plan(REQUEST, "p")) as items:
        await anext(items)
        assert judge.judging == 1
    assert judge.judging == 0
