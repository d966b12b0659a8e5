"""What was written down serves again: after a restart of the server, and after the engine's death."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fleet_factory import make_fleet
from orders import ask, canary, held, next_engine, order, serving, states, swap, until

from s3lora_serve.control.operation import Kind, Operation, Step, Wanted
from s3lora_serve.errors import EngineDead, EngineError

NEW = Wanted(source="new")


@pytest.fixture
async def fleet(fleet_of):
    """Planners p and q serve 0 and 1; 2 and 3 lie under "new" and "newer"."""
    fleet = await fleet_of("p", "q").start()
    fleet.shelf.put("new")
    fleet.shelf.put("newer")
    return fleet


async def again(fleet, *names, **options):
    """Another server over the same state, after this one was stopped."""
    await fleet.close()
    root = fleet.service.journal.path.parent
    return await make_fleet(root, *(names or ("p", "q")), shelf=fleet.shelf, **options).start()


def actions(fleet, name=None):
    """What the journal says, oldest first."""
    return [entry.action for entry in reversed(fleet.control.history(name))]


# The server


async def test_the_same_names_serve_the_same_revisions(fleet):
    """A swap outlives the server: not what planners.yaml declares is served, but what was decided since."""
    await swap(fleet, "p", "new")
    restarted = await again(fleet)
    assert (await ask(restarted, "p"), await ask(restarted, "q")) == ("2", "1")
    planner = restarted.service.get("p")
    assert (planner.previous[0], planner.generation) == ("0", 2)
    assert (await restarted.done(await restarted.control.rollback("p", order()))).step is Step.DONE
    assert await ask(restarted, "p") == "0"
    await restarted.close()


async def test_a_trial_goes_on(fleet):
    """The candidate, its share and its sessions are as they were."""
    await canary(fleet, "p", "new", share=0.5)
    before = {f"s{i}": await ask(fleet, "p", session=f"s{i}") for i in range(20)}
    restarted = await again(fleet)
    assert states(restarted, "p") == {"0": "serving", "2": "canary"}
    assert {session: await ask(restarted, "p", session=session) for session in before} == before
    await restarted.close()


async def test_a_candidate_that_is_gone_keeps_nobody_from_serving(fleet):
    """An experiment that cannot be restored is given up, and the journal says why."""
    await canary(fleet, "p", "new", share=0.5)
    del fleet.shelf.revisions["new"]
    restarted = await again(fleet)
    assert states(restarted, "p") == {"0": "serving"}
    assert restarted.service.journal.planners()["p"].candidate is None
    assert "is given up" in " ".join(e.reason for e in restarted.control.history("p"))
    await restarted.close()


@pytest.mark.parametrize("step", [Step.ADMITTING, Step.LOADING, Step.FLIPPING, Step.DRAINING])
async def test_an_order_cut_short_is_finished_or_undone(fleet, step):
    """What had been decided is done, anything before is undone, and the journal says which."""
    cut = Operation("op-cut", Kind.SWAP, "p", order(), step, 1.0, from_digest="0" * 64)
    fleet.service.journal.write(operation=cut)
    restarted = await again(fleet)
    decided = step is Step.DRAINING
    ended = restarted.control.operation("op-cut")
    assert (ended.step, ended.ended_at is None) == (Step.DONE if decided else Step.UNDONE, False)
    assert f"swap.{'finished' if decided else 'undone'}" in actions(restarted, "p")
    assert (restarted.service.journal.running(), await ask(restarted, "p")) == ([], "0")
    assert (await swap(restarted, "p", "new")).step is Step.DONE
    await restarted.close()


async def test_stopped_in_mid_swap(fleet):
    """A server that is stopped while it loads undoes the swap at its next start."""
    gate = fleet.engine.hold_loads("p@2*")
    operation = await fleet.control.swap("p", NEW, order())
    await until(lambda: gate.waiting)
    restarted = await again(fleet)
    assert restarted.control.operation(operation.id).step is Step.UNDONE
    assert (await ask(restarted, "p"), states(restarted, "p")) == ("0", {"0": "serving"})
    await restarted.close()


async def test_a_planner_that_is_declared_no_more_is_removed(fleet):
    """It is not served, and its removal is an entry."""
    restarted = await again(fleet, "q")
    assert [planner.name for planner in restarted.service.planners()] == ["q"]
    assert set(restarted.service.journal.planners()) == {"q"}
    assert "planner.removed" in actions(restarted, "p")
    await restarted.close()


async def test_nothing_is_written_when_nothing_changed(fleet):
    """A plain restart adds the entry of its start, and no decision."""
    before = len(actions(fleet))
    restarted = await again(fleet)
    assert actions(restarted)[before:] == ["server.started"]
    assert restarted.service.get("p").generation == 1
    await restarted.close()


# The engine


async def test_requests_in_flight_are_told_and_the_planner_comes_back(fleet):
    """They end with EngineDead, readiness is gone at once, and the same revision serves on the next one."""
    fleet.engine.hold_requests("p@*")
    running = asyncio.create_task(ask(fleet, "p"))
    await until(lambda: sum(fleet.service.get("p").leases.values()))
    restart = fleet.starts.hold()
    fleet.engine.die()
    with pytest.raises(EngineDead):
        await running
    await until(lambda: not fleet.service.host.alive)
    planner = fleet.service.get("p")
    assert (planner.state, await fleet.service.ready(), planner.up) == ("evicted", False, True)
    assert fleet.service.state_of(planner)[0] == "evicted"
    with pytest.raises(EngineDead, match="does not run"):
        await ask(fleet, "p")
    restart.open()
    await until(lambda: fleet.service.host.alive)
    assert (await ask(fleet, "p"), await fleet.service.ready()) == ("0", True)
    await until(lambda: {"engine.died", "engine.restarted"} <= set(actions(fleet)))


async def test_only_what_a_name_means_is_loaded_again(fleet):
    """Standbys are gone with the engine; a rollback to one is a load."""
    await swap(fleet, "p", "new")
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert states(fleet, "p") == {"2": "serving"}
    done = await fleet.done(await fleet.control.rollback("p", order()))
    assert ("load" in done.seconds, await ask(fleet, "p")) == (True, "0")


async def test_pinned_planners_and_candidates_come_first(fleet_of):
    """With fewer slots than planners they are loaded again before the others, which wait for a request."""
    fleet = await fleet_of("p", "q", "r", pinned=("r",), max_loras=2).start()
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert fleet.service.get("r").slot is not None
    assert [await ask(fleet, name) for name in ("p", "q", "r")] == ["0", "1", "2"]


async def test_one_that_does_not_come_back_holds_up_nobody(fleet):
    """Its failure is its own; the engine counts as back, and the planner recovers with a later request."""
    next_engine(fleet, lambda engine: engine.fail_load("p@*", "disk on fire"))
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert (await ask(fleet, "q"), await fleet.service.ready()) == ("1", False)
    with pytest.raises(EngineError, match="disk on fire"):
        await ask(fleet, "p")
    fleet.running.mend_loads()
    assert (await ask(fleet, "p"), await fleet.service.ready()) == ("0", True)


async def test_it_dies_again_while_it_is_brought_back(fleet):
    """The next one is started, and the one after that, until one stays."""
    next_engine(fleet, lambda engine: engine.die_during("load"))
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts == 2 and fleet.service.host.alive)
    assert (await ask(fleet, "p"), await ask(fleet, "q")) == ("0", "1")


async def test_a_drain_ends_with_the_engine(fleet):
    """What drained has nothing left to drain: the swap is done, and nothing of it is left."""
    async with held(fleet, "p") as request:
        operation = await fleet.control.swap("p", NEW, order())
        await until(lambda: serving(fleet, "p") == "2")
        fleet.engine.die()
        done = await fleet.done(operation)
        request.task.cancel()
    assert (done.step, done.cut) == (Step.DONE, ())
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert states(fleet, "p") == {"2": "serving"}


async def test_an_idle_request_during_the_restart_loads_once(fleet):
    """A request that comes while the engine is being filled again waits for the same load."""
    gates = []
    next_engine(fleet, lambda engine: gates.append(engine.hold_loads("*")))
    fleet.engine.die()
    await until(lambda: gates and gates[0].waiting)
    waiting = [asyncio.create_task(ask(fleet, name)) for name in ("p", "q", "p")]
    await until(lambda: fleet.service._loading.waiting == 3)
    gates[0].open()
    assert [await each for each in waiting] == ["0", "1", "0"]
    await until(lambda: fleet.service.host.alive)
    assert len(await fleet.running.loaded()) == 2


# Verification


async def test_a_sound_fleet_is_found_sound(fleet):
    """Journal, planners, revisions and engine are each a finding, and all agree."""
    await swap(fleet, "p", "new")
    findings = await fleet.control.verify()
    assert [f.message for f in findings if not f.ok] == []
    subjects = [finding.subject for finding in findings]
    assert {"journal", "planner p", "planner q", "engine"} < set(subjects)
    assert sum("revision" in subject for subject in subjects) == 3


def change(fleet):
    """Have the journal say something else than what serves."""
    record = fleet.service.journal.planners()["p"]
    fleet.service.journal.write(planner=replace(record, active="f" * 64))


@pytest.mark.parametrize(
    ("damage", "subject", "said"),
    [
        (lambda f: f.running.invent(99), "engine", "were not loaded here: [99]"),
        (lambda f: f.running.forget(f.service.get("q").slot), "engine", "does not hold q@1"),
        (lambda f: f.shelf.revisions.pop("q"), "revision 1", "not in the store"),
        (lambda f: f.engine.die(), "engine", "the "),
        (change, "planner p", "its row says active ffffffffffff, entry 3 (server.started) says 000000000000"),
    ],
)
async def test_what_is_wrong_is_found(fleet, damage, subject, said):
    """Each kind of damage is a finding that names what disagrees; nothing else is blamed."""
    fleet.starts.hold()
    damage(fleet)
    bad = [finding for finding in await fleet.control.verify() if not finding.ok]
    assert any(f.subject.startswith(subject) and said in f.message for f in bad), bad
    fleet.running._slots.violations.clear()


async def test_an_order_that_runs_is_no_finding(fleet):
    """What is on its way into the engine, or being decided, is not yet wrong."""
    gate = fleet.engine.hold_loads("p@2*")
    operation = await fleet.control.swap("p", NEW, order())
    await until(lambda: gate.waiting)
    assert [f for f in await fleet.control.verify() if not f.ok] == []
    gate.open()
    while not fleet.control.operation(operation.id).step.ended:
        assert [f for f in await fleet.control.verify() if not f.ok] == []
