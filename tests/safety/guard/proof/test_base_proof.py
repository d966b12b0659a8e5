"""After a restart of the engine the base model judges on, unless it is found not to be itself any more."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial

import pytest
from fleet_factory import BASE, make_fleet
from leaky_engine import LeakyEngine

from planners import PlannerInput
from s3lora_serve.config import GuardConfig
from s3lora_serve.errors import EngineDead, EngineError, GuardUndecided
from s3lora_serve.safety.guard.base_judge import BaseJudge
from s3lora_serve.safety.guard.guard_facts import guard_facts, guard_line
from s3lora_serve.safety.guard.guards import Guards
from s3lora_serve.safety.guard.proof import base_proof
from s3lora_serve.safety.guard.proof.base_proof import PAUSES, BaseProof
from s3lora_serve.safety.guard.proof.unharmed import check_unharmed
from s3lora_serve.server.health import health_router
from s3lora_serve.server.views import planner_summary

QUIET = 0.05  # the fake has no noise, and its adapters move scores by less than half a nat
SHARE = {"value": 0.9, "low": 0.8, "high": 1.0}
WELL = {"holds": True, "tells": True, "distance": 0.0, "tolerance": 0.5}
TESTED = {"tested": True, "refusal": SHARE, "over_refusal": SHARE, "unharmed": WELL}
REQUEST = PlannerInput(task="Who directed Inception?", tools=({"name": "Search"},))


@pytest.fixture
def proof():
    """What is known of a base model that was tested at the start and may guard."""
    proof = BaseProof()
    proof.told = TESTED
    return proof


@pytest.fixture
async def guarded(tmp_path, proof):
    """p and q, each judged by the base model of the engine that runs, closed and open."""
    terms = {"p": GuardConfig(action="refuse"), "q": GuardConfig(action="refuse", fail="open")}
    judges = {
        name: {"base": BaseJudge(lambda: proof.judging(fleet.service.engine), each)}
        for name, each in terms.items()
    }
    fleet = make_fleet(tmp_path, "p", "q", guards=Guards(terms, judges, base=proof))
    await fleet.start()
    yield fleet
    await fleet.close()
    assert fleet.starts.violations == []


async def restarted(fleet, proof, *, leaks):
    """Let the engine die, and another one come up in its place that was looked at."""

    def make():
        engine = LeakyEngine(base_name=BASE, seconds_per_token=0.001)
        engine.generates = leaks
        return engine

    fleet.starts._make = make
    before = proof.told
    fleet.running.die()
    async with asyncio.timeout(20):
        while proof.told is before or proof.told["unharmed"]["checking"]:
            await asyncio.sleep(0.01)


async def test_a_base_that_is_harmed_after_a_restart_gives_no_verdict(guarded, proof, caplog, monkeypatch):
    """``fail`` decides, as of a judge that fails; log, catalogue and status say so until an engine passes."""
    monkeypatch.setattr(base_proof, "check_unharmed", partial(check_unharmed, rounding=QUIET))
    service = guarded.service
    assert (await service.plan(REQUEST, "p")).meta.guard.verdict == "allowed"
    with caplog.at_level(logging.ERROR):
        await restarted(guarded, proof, leaks=True)
    assert "is NOT itself beside 2 adapters" in caplog.text
    assert "guards by the base model fail until an engine passes" in caplog.text
    with pytest.raises(GuardUndecided) as told:
        await service.plan(REQUEST, "p")
    assert told.value.again
    assert (await service.plan(REQUEST, "q")).meta.guard.verdict == "open"
    shown = planner_summary(service.get("p"), service, str)["guard"]
    assert shown["self_test"]["unharmed"]["holds"] is False
    assert guard_line(shown).endswith("; it is NOT itself beside adapters, and gives no verdict")
    assert not await service.ready()
    readyz = next(route.endpoint for route in health_router(service).routes if route.path == "/readyz")
    told = json.loads((await readyz()).body)
    assert (told["status"], told["guard"]) == ("not ready", proof.harm)
    await restarted(guarded, proof, leaks=False)
    assert await service.ready()
    assert (await service.plan(REQUEST, "p")).meta.guard.verdict == "allowed"
    assert proof.told["unharmed"]["holds"]


async def test_judging_goes_on_while_it_is_looked_at(guarded, proof, monkeypatch):
    """The slots that are looked at stay in the engine meanwhile; all are told that it is being checked."""
    looks, go_on = asyncio.Event(), asyncio.Event()

    async def look(engine, slots):
        seen.extend(slot.name[:2] for slot in slots)
        looks.set()
        await go_on.wait()
        return await check_unharmed(engine, slots)

    seen = []
    monkeypatch.setattr(base_proof, "check_unharmed", look)
    guarded.running.die()
    async with asyncio.timeout(20):
        await looks.wait()
    service = guarded.service
    while not service.host.alive:
        await asyncio.sleep(0.01)
    assert (await service.plan(REQUEST, "p")).meta.guard.verdict == "allowed"
    line = guard_line(guard_facts(GuardConfig(action="refuse"), proof.told))
    assert line.endswith("whether the restarted engine's adapters leave it alone is being checked")
    assert (
        seen,
        [service._loading._allocator.holds(planner.active.key) for planner in service.planners()],
    ) == (
        ["p@", "q@"],
        [True, True],
    )
    go_on.set()


class Failing:
    """An engine that fails this often before it can be asked."""

    def __init__(self, engine, errors):
        self._engine, self.errors = engine, errors

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def score(self, token_ids, slot):
        if self.errors:
            raise self.errors.pop(0)
        return await self._engine.score(token_ids, slot)


class Slots:
    """No slots; counts how often they were held."""

    held = 0

    async def __aenter__(self):
        self.held += 1
        return []

    async def __aexit__(self, *_):
        return None


async def test_what_cannot_be_asked_is_asked_again(caplog):
    """With growing pauses, until it can; a slot that went meanwhile is no finding."""
    pauses, slots = [], Slots()

    async def sleep(seconds):
        pauses.append(seconds)

    proof = BaseProof(sleep)
    proof.told = TESTED
    errors = [EngineError("slot p is not loaded") for _ in range(len(PAUSES) + 1)]
    with caplog.at_level(logging.WARNING):
        await proof.restarted(Failing(LeakyEngine(), errors), lambda: slots)
    assert (pauses, slots.held) == ([*PAUSES, PAUSES[-1]], len(PAUSES) + 2)
    assert "not known yet: slot p is not loaded" in caplog.text
    assert (proof.harm, proof.told["unharmed"]["checking"]) == ("", False)


async def test_an_engine_that_dies_is_the_next_ones_affair(proof):
    """It stays known that it is being looked at."""
    await proof.restarted(Failing(LeakyEngine(), [EngineDead("gone")]), Slots)
    assert (proof.harm, proof.told["unharmed"]) == ("", {**WELL, "checking": True})


@pytest.mark.parametrize("told", [None, {"tested": False, "why": "made up"}])
async def test_what_was_not_tested_is_not_looked_at(told):
    """Where nobody asks the base model, or its answers are made up."""
    proof = BaseProof()
    proof.told = told
    await proof.restarted(Failing(LeakyEngine(), [AssertionError()]), Slots)
    assert (proof.told, proof.harm) == (told, "")


@pytest.mark.parametrize(
    ("terms", "stuck"),
    [
        ({"action": "refuse"}, True),
        ({"action": "refuse", "fail": "open"}, False),
        ({"action": "observe"}, False),
        ({}, False),
    ],
)
def test_only_who_waits_for_a_verdict_is_stuck(proof, terms, stuck):
    """Others are answered all the same."""
    guards = Guards({"p": GuardConfig(**terms)}, {"p": {}}, base=proof)
    assert guards.stuck(["p"]) == ""
    proof.told = {**TESTED, "unharmed": {**WELL, "holds": False}}
    assert bool(guards.stuck(["p"])) is stuck
    assert guards.stuck(["other"]) == ""


def test_a_harm_of_the_start_holds_too(proof):
    """A guard that only observes starts with it, and judges nothing."""
    engine = LeakyEngine()
    assert proof.judging(engine) is engine
    proof.told = {**TESTED, "unharmed": {**WELL, "holds": False}}
    with pytest.raises(EngineError, match="not itself beside adapters"):
        proof.judging(engine)
