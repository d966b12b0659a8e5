"""The service: planners come up, fail alone, and answer."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fleet_factory import BASE
from orders import until
from prometheus_client.parser import text_string_to_metric_families

from planners import PlannerInput
from s3lora_serve.errors import ConfigError, EngineDead, PlannerNotReady, UnknownPlanner
from s3lora_serve.fleet.states import DeploymentState

REQUEST = PlannerInput(task="Who directed Inception?", tools=({"name": "Search"}, {"name": "LLM"}))


def metric(service, name, **labels):
    """The value of one series, None if it is not there."""
    return next(
        (
            sample.value
            for family in text_string_to_metric_families(service.metrics.exposition().decode())
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ),
        None,
    )


async def test_planners_come_up_in_order_and_in_full(fleet_of):
    """Each planner is loaded, proved and only then serves; the engine holds exactly their slots."""
    fleet = fleet_of("p", "q")
    await fleet.start()
    loaded = ["admitted", "loading", "probing", "ready", "serving"]
    assert fleet.steps == dict.fromkeys(("p", "q"), loaded)
    p, q = fleet.service.planners()
    assert (p.slot.name, q.slot.name) == ("p@000000000000", "q@111111111111")
    assert await fleet.engine.loaded() == frozenset({p.slot.id, q.slot.id})
    assert (set(p.active.seconds), p.active.effect.max_abs_delta > p.active.effect.noise) == (
        {"load", "probe", "trial"},
        True,
    )
    assert await fleet.service.ready()


async def test_a_fully_pruned_planner_is_the_base_model_and_says_so(fleet_of):
    """vLLM cannot load an empty adapter, so nothing is loaded and the base model answers under its name."""
    fleet = fleet_of(hollow=("h",))
    await fleet.start()
    planner = fleet.service.get("h")
    assert (planner.active.served_by, planner.slot, planner.up) == ("base", None, True)
    assert await fleet.engine.loaded() == frozenset()
    plan = await fleet.service.plan(REQUEST, "h")
    assert (plan.meta.planner, plan.meta.revision) == ("h", planner.revision.digest)


async def test_one_failure_does_not_stop_the_others(fleet_of):
    """A planner whose adapter does not load is FAILED with the reason, and the ones after it serve."""
    fleet = fleet_of("bad", "good")
    fleet.engine.fail_load("bad@*", "disk on fire")
    await fleet.start()
    bad, good = fleet.service.planners()
    assert (bad.state, bad.active.reason) == (
        DeploymentState.FAILED,
        "slot bad@000000000000 could not be loaded: disk on fire",
    )
    assert (good.up, set(bad.active.seconds), bad.slot) == (True, set(), None)
    assert await fleet.engine.loaded() == frozenset({good.slot.id})


async def test_an_adapter_without_effect_is_unloaded(fleet_of):
    """A planner that answers like the base model is not served, and its slot is given back."""
    fleet = fleet_of("dud", "good")
    fleet.engine.no_effect("dud@*")
    await fleet.start()
    dud = fleet.service.get("dud")
    assert (fleet.steps["dud"], dud.active.reason.split(",")[0]) == (
        ["admitted", "loading", "probing", "failed"],
        "slot dud@000000000000 changes the log-probabilities of 24 probe tokens by 0 nats",
    )
    assert await fleet.engine.loaded() == frozenset({fleet.service.get("good").slot.id})


async def test_a_defect_is_one_planners_failure_too(fleet_of, monkeypatch, caplog):
    """An unexpected exception fails its planner alone, and is logged with its trace."""
    fleet = fleet_of("odd", "good")
    load = fleet.engine.load

    async def broken(slot):
        if slot.name.startswith("odd"):
            raise ZeroDivisionError("surprise")
        await load(slot)

    monkeypatch.setattr(fleet.engine, "load", broken)
    with caplog.at_level(logging.ERROR):
        await fleet.start()
    assert (fleet.service.get("odd").active.reason, fleet.service.get("good").up) == (
        "ZeroDivisionError: surprise",
        True,
    )
    assert "Traceback" in caplog.text


async def test_a_dead_engine_ends_the_start(fleet_of):
    """When the engine dies while loading there is nothing to go on with."""
    fleet = fleet_of("p")
    fleet.engine.die_during("load")
    with pytest.raises(EngineDead):
        await fleet.start()
    assert not await fleet.service.ready()


async def test_ready_needs_every_planner_and_a_live_engine(fleet_of):
    """One failed planner makes the process not ready, though the others answer; so does a dead engine."""
    fleet = fleet_of("bad", "good")
    assert not await fleet.service.ready()  # not started
    fleet.engine.fail_load("bad@*")
    await fleet.start()
    assert (await fleet.service.ready(), await fleet.service.healthy()) == (False, True)
    assert len((await fleet.service.plan(REQUEST, "good")).steps) > 0
    whole = fleet_of("p")
    await whole.start()
    assert await whole.service.ready()
    whole.engine.die()
    assert not await whole.service.ready()


async def test_no_planners_is_not_ready(fleet_of):
    """A server without planners has nothing to be ready for."""
    fleet = fleet_of()
    await fleet.start()
    assert not await fleet.service.ready()


async def test_unknown_names_list_the_known_ones(fleet_of):
    """A wrong name is answered with the right ones, and a very long one is cut."""
    fleet = await fleet_of("q", "p").start()
    for name in ("x", "", "P", "p ", "../p", "p@000000000000"):
        with pytest.raises(UnknownPlanner) as unknown:
            fleet.service.get(name)
        assert str(unknown.value) == f"there is no planner {name!r}; planners: p, q"
    with pytest.raises(UnknownPlanner) as unknown:
        fleet.service.get("x" * 100_000)
    assert len(str(unknown.value)) < 200


async def test_a_failed_planner_says_why_and_who_serves(fleet_of):
    """A request to a planner that is down learns the reason and the planners that are up."""
    fleet = fleet_of("bad", "good")
    fleet.engine.fail_load("bad@*", "disk on fire")
    await fleet.start()
    with pytest.raises(PlannerNotReady) as down:
        await fleet.service.plan(REQUEST, "bad")
    assert str(down.value) == (
        "planner 'bad' does not serve (failed): slot bad@000000000000 could not be loaded: disk on fire;"
        " serving: good"
    )


async def test_a_planner_cannot_have_the_base_models_name(fleet_of):
    """Both would be asked for by the same name."""
    with pytest.raises(ConfigError) as refused:
        await fleet_of(BASE).start()
    assert str(refused.value) == (
        f"planner {BASE!r} has the name of the base model; give one of them another name"
    )


async def test_each_planner_answers_with_its_own_weights(fleet_of):
    """Two planners give different plans to one request, and the same one the same plan twice."""
    fleet = fleet_of("p", "q")
    await fleet.start()
    one, other, again = [await fleet.service.plan(REQUEST, name) for name in ("p", "q", "p")]
    assert (one.steps == other.steps, one.steps == again.steps) == (False, True)


async def test_requests_are_counted_for_their_planner(fleet_of):
    """A plan moves its planner's counters and no other's; the probes at the start are not requests."""
    fleet = fleet_of("p", "q")
    await fleet.start()
    assert metric(fleet.service, "s3lora_requests_total", planner="p", outcome="ok") == 0
    assert metric(fleet.service, "s3lora_requests_total", planner=BASE, outcome="ok") == 0
    plan = await fleet.service.plan(REQUEST, "p")
    counted = [
        metric(fleet.service, "s3lora_requests_total", planner=name, outcome="ok") for name in ("p", "q")
    ]
    assert counted == [1, 0]
    assert metric(fleet.service, "s3lora_output_tokens_total", planner="p") == plan.meta.usage.output_tokens


async def test_a_cancelled_plan_stops_the_engine(fleet_of):
    """Whoever stops waiting for a plan stops its generation; it is counted as aborted."""
    fleet = fleet_of("p")
    await fleet.start()
    fleet.engine.seconds_per_token = 10
    task = asyncio.ensure_future(fleet.service.plan(REQUEST, "p"))
    await until(lambda: fleet.engine.running(fleet.service.get("p").slot))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert metric(fleet.service, "s3lora_requests_total", planner="p", outcome="aborted") == 1


async def test_gauges_say_what_serves(fleet_of):
    """Planner gauges follow the state: none is up once the engine is dead."""
    fleet = fleet_of("p", hollow=("h",))
    await fleet.start()
    info = {"planner": "h", "served_by": "base", "base_model": BASE, "state": "serving"}
    assert metric(fleet.service, "s3lora_planner_info", **info) == 1
    assert [metric(fleet.service, "s3lora_modules", planner="p", kind=k) for k in ("kept", "pruned")] == [
        2,
        1,
    ]
    assert metric(fleet.service, "s3lora_planner_up", planner="p") == 1
    fleet.starts.hold()
    fleet.engine.die()
    await until(lambda: not fleet.service.host.alive)
    assert metric(fleet.service, "s3lora_planner_up", planner="p") == 0
