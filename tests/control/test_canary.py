"""A candidate answers its share, sticks to its sessions, and is promoted or given up."""

from __future__ import annotations

import pytest
from orders import ask, canary, held, next_engine, order, rollback, serving, states, swap, until

from s3lora_serve.config import SwapConfig
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import ConfigError, Conflict


@pytest.fixture
async def fleet(fleet_of):
    """Planner p serves 0; 1 and 2 lie under "new" and "newer"."""
    fleet = await fleet_of("p").start()
    fleet.shelf.put("new")
    fleet.shelf.put("newer")
    return fleet


async def answers(fleet, sessions):
    """Who answers each session."""
    return {session: await ask(fleet, "p", session=session) for session in sessions}


SESSIONS = [f"session {i}" for i in range(60)]


async def test_it_answers_its_share_and_says_so(fleet):
    """About the share of the sessions goes to the candidate, with its role; the others notice nothing."""
    done = await canary(fleet, "p", "new", share=0.5)
    assert (done.step, states(fleet, "p")) == (Step.DONE, {"0": "serving", "1": "canary"})
    found = await answers(fleet, SESSIONS)
    assert 15 < sum(answer == "1" for answer in found.values()) < 45
    for session, answer in found.items():
        async with fleet.service.lease("p", session=session) as lease:
            assert lease.role == ("canary" if answer == "1" else "active")


async def test_a_session_stays_where_it_is(fleet):
    """Whoever is on the candidate or not stays so when the share grows; new sessions follow the share."""
    await canary(fleet, "p", "new", share=0.3)
    first = await answers(fleet, SESSIONS)
    await fleet.done(await fleet.control.canary("p", None, order(), share=0.9))
    assert await answers(fleet, SESSIONS) == first
    later = await answers(fleet, [f"later {i}" for i in range(60)])
    assert sum(answer == "1" for answer in later.values()) > 40


async def test_an_episode_that_began_before_stays_on_the_old_one(fleet):
    """A canary of all requests takes new sessions only; those that run keep their planner to the end."""
    assert await ask(fleet, "p", session="early") == "0"
    await canary(fleet, "p", "new", share=1.0)
    assert (await ask(fleet, "p", session="early"), await ask(fleet, "p", session="late")) == ("0", "1")
    assert await ask(fleet, "p", request_id="no session") == "1"


async def test_share_none_and_all(fleet):
    """A share of 0 routes no request to the candidate, a share of 1 every new one."""
    await canary(fleet, "p", "new", share=0.0)
    assert {await ask(fleet, "p", request_id=f"r{i}") for i in range(20)} == {"0"}
    await fleet.done(await fleet.control.canary("p", None, order(), share=1.0))
    assert {await ask(fleet, "p", request_id=f"r{i}") for i in range(20)} == {"1"}


@pytest.mark.parametrize(
    ("tried", "change", "then"),
    [
        ({"share": 0.2, "shadow": True}, {"share": 0.5}, (0.5, True, None)),
        ({"share": 0.2, "shadow": True}, {"shadow": False}, (0.2, False, None)),
        ({"share": 0.2, "promote_after": 50}, {"share": 0.5}, (0.5, False, 50)),
        ({"share": 0.2, "promote_after": 50}, {"shadow": True}, (0.2, True, None)),
        ({"share": 0.2}, {"promote_after": 9}, (0.2, False, 9)),
        ({"share": 0.2}, {}, (0.2, False, None)),
        ({}, {"share": 0.5}, (0.5, False, None)),
    ],
)
async def test_a_change_leaves_the_rest_of_the_trial_as_it_is(fleet, tried, change, then):
    """A wider shadow stays a shadow, a wider canary is still promoted by itself: all else must be said."""
    await fleet.done(await fleet.control.canary("p", Wanted(source="new"), order(), **tried))
    done = await fleet.done(await fleet.control.canary("p", None, order(), **change))
    rollout = fleet.service.get("p").rollout
    assert (rollout.share, rollout.shadow, rollout.promote_after) == then
    assert done.kind == ("shadow" if then[1] else "canary")
    assert done.to_digest == fleet.service.get("p").candidate.revision.digest


async def test_a_shadow_is_not_to_be_promoted(fleet):
    """Neither at first nor by a change, and the trial goes on as it was."""
    with pytest.raises(ConfigError, match="a shadow answers no requests"):
        await fleet.control.canary("p", Wanted(source="new"), order(), shadow=True, promote_after=5)
    await canary(fleet, "p", "new", share=0.5, shadow=True)
    with pytest.raises(ConfigError, match="a shadow answers no requests"):
        await fleet.control.canary("p", None, order(), promote_after=5)
    assert fleet.service.get("p").rollout.shadow


async def test_promoted_it_serves_everybody(fleet):
    """The candidate becomes the active one before the call returns; the old one is kept for a rollback."""
    await canary(fleet, "p", "new")
    operation = await fleet.control.promote("p", order())
    assert (serving(fleet, "p"), fleet.service.get("p").candidate) == ("1", None)
    await fleet.done(operation)
    assert states(fleet, "p") == {"0": "standby", "1": "serving"}
    assert set((await answers(fleet, SESSIONS)).values()) == {"1"}
    await rollback(fleet, "p")
    assert serving(fleet, "p") == "0"


async def test_given_up_it_drains_and_goes(fleet):
    """A rollback during a trial gives the candidate up; its requests end, then it is unloaded."""
    await canary(fleet, "p", "new", share=1.0)
    async with held(fleet, "p", request_id="r") as request:
        assert request.lease.role == "canary"
        operation = await fleet.control.rollback("p", order())
        assert (serving(fleet, "p"), states(fleet, "p")) == ("0", {"0": "serving", "1": "draining"})
        assert await ask(fleet, "p", request_id="r") == "0"
    assert (await fleet.done(operation)).step is Step.DONE
    assert states(fleet, "p") == {"0": "serving"}
    record = fleet.service.journal.planners()["p"]
    assert (record.candidate, record.rollout, record.previous) == (None, None, None)


async def test_a_swap_waits_for_the_trial_unless_forced(fleet):
    """A planner on trial takes no other revision; with force the candidate is given up."""
    await canary(fleet, "p", "new")
    with pytest.raises(Conflict, match="on trial"):
        await fleet.control.swap("p", Wanted(source="newer"), order())
    with pytest.raises(Conflict, match="on trial"):
        await fleet.control.canary("p", Wanted(source="newer"), order(), share=0.5)
    with pytest.raises(Conflict, match="on trial"):
        await fleet.control.rollback("p", order(), to="2" * 64)
    assert (await swap(fleet, "p", "newer", force=True)).step is Step.DONE
    assert states(fleet, "p") == {"0": "standby", "2": "serving"}


async def test_a_forced_swap_to_the_candidate_itself(fleet):
    """That is a promotion by another name: the candidate is not unloaded."""
    await canary(fleet, "p", "new")
    assert (await swap(fleet, "p", "new", force=True)).step is Step.DONE
    assert states(fleet, "p") == {"0": "standby", "1": "serving"}


async def test_without_a_candidate_there_is_nothing_to_do(fleet):
    """Promotion and a change of share need one; what serves already cannot be tried."""
    with pytest.raises(Conflict, match="no candidate"):
        await fleet.control.promote("p", order())
    with pytest.raises(Conflict, match="no candidate"):
        await fleet.control.canary("p", None, order(), share=0.5)
    with pytest.raises(ConfigError, match="from 0 to 1"):
        await fleet.control.canary("p", Wanted(source="new"), order(), share=1.5)
    failed = await canary(fleet, "p", "p")
    assert (failed.error["code"], states(fleet, "p")) == ("conflict", {"0": "serving"})


async def test_a_candidate_that_does_not_load_is_never_tried(fleet):
    """The trial does not begin, and the candidate answered no request."""
    fleet.engine.no_effect("p@1*")
    failed = await canary(fleet, "p", "new", share=1.0)
    assert (failed.step, failed.error["code"]) == (Step.FAILED, "no_effect")
    assert (states(fleet, "p"), await ask(fleet, "p")) == ({"0": "serving"}, "0")


async def test_a_candidate_that_cannot_be_loaded_again_costs_no_answer(fleet):
    """After the engine's death the candidate fails to load: the active revision answers its share."""
    await canary(fleet, "p", "new", share=1.0)
    next_engine(fleet, lambda engine: engine.fail_load("p@1*"))
    fleet.engine.die()
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert await ask(fleet, "p", request_id="r") == "0"
    fleet.running.mend_loads()
    assert await ask(fleet, "p", request_id="r") == "1"


@pytest.mark.parametrize("way", ["promote", "rollback"])
async def test_decided_while_the_engine_is_down(fleet, way):
    """A candidate can be promoted or given up while nothing is loaded; that is what serves afterwards."""
    await canary(fleet, "p", "new", share=1.0)
    restart = fleet.starts.hold()
    fleet.engine.die()
    await until(lambda: not fleet.service.host.alive)
    done = await fleet.done(await getattr(fleet.control, way)("p", order()))
    assert done.step is Step.DONE
    restart.open()
    await until(lambda: fleet.service.host.alive)
    assert await ask(fleet, "p", request_id="r") == ("1" if way == "promote" else "0")


@pytest.mark.parametrize("way", ["promote", "rollback"])
async def test_decided_while_it_is_being_loaded_again(fleet_of, way):
    """A flip to what is on its way into the engine waits for nothing and breaks nothing."""
    fleet = await fleet_of("p", swap=SwapConfig(keep_seconds=0.0)).start()
    fleet.shelf.put("new")
    await canary(fleet, "p", "new", share=1.0)
    gates = []
    next_engine(fleet, lambda engine: gates.append(engine.hold_loads("*")))
    fleet.engine.die()
    await until(lambda: gates and gates[0].waiting)
    done = await fleet.done(await getattr(fleet.control, way)("p", order()))
    assert done.step is Step.DONE
    gates[0].open()
    await until(lambda: fleet.service.host.alive)
    expected = "1" if way == "promote" else "0"
    assert await ask(fleet, "p", request_id="r") == expected
    await until(lambda: states(fleet, "p") == {expected: "serving"})
