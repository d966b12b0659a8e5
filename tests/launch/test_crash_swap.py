"""Killed between any two steps of an order, a server starts again where the journal says that it was.

A power cut or the kernel's memory killer leaves what is on the disk and nothing else. Moments between which
no journal write lies leave the same behind; of the longer tests only one moment of each such row is taken.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from dying_fleet import ORDER, SCENARIOS, Names, canary, fleet_at, shelve, swap

from s3lora_serve.control.operation import Step
from s3lora_serve.engine.fake.fake_engine import FakeEngine
from s3lora_serve.engine.port import Sampling, Slot
from s3lora_serve.serving import local_replica

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

QUESTION = [{"role": "user", "content": "Who wrote Hamlet?"}]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Adapters that are admitted by name."""
    return shelve(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def answers(shelf):
    """``await answers(source)``: what an engine answers that holds this adapter and no other."""

    async def ask(source: str) -> str:
        engine = FakeEngine(base_name="fake-base")
        slot = Slot("alone@0", 1, shelf.revisions[source].path)
        await engine.load(slot)
        return (await engine.chat(QUESTION, slot, Sampling(max_tokens=64))).text

    return ask


@pytest.fixture(scope="module")
def moments(nursery, shelf, tmp_path_factory):
    """``moments(scenario)``: all moments of its order, in order."""
    known = {}

    def of(name: str) -> list[str]:
        if name not in known:
            folder = tmp_path_factory.mktemp("whole")
            child = nursery.start("dying_fleet:live", folder, name, str(shelf.root.parent), str(folder), "-1")
            assert child.wait() == 0, child.err
            known[name] = json.loads((folder / "moments.json").read_text())
        return known[name]

    return of


def die(nursery, shelf, call: str, name: str, folder: Path, at: int) -> None:
    """Let a process carry the scenario out, or start, and see it killed at this moment."""
    child = nursery.start(f"dying_fleet:{call}", folder, name, str(shelf.root.parent), str(folder), str(at))
    assert child.wait() == -signal.SIGKILL, child.err


def rows(moments: list[str]) -> list[int]:
    """The first moment, and each that follows a journal write: one for each state of the disk."""
    return [0, *[n for n, moment in enumerate(moments) if moment.startswith("after write")]]


def names(fleet) -> dict[str, Names]:
    """What every planner's name means, by sources."""
    sources = {revision.digest: source for source, revision in fleet.shelf.revisions.items()}
    return {
        p.name: Names(
            sources[p.revision.digest],
            sources[p.previous] if p.previous else None,
            sources[p.candidate.revision.digest] if p.candidate else None,
        )
        for p in fleet.service.planners()
    }


async def check_order(fleet, scenario, begun: bool, decided: bool) -> None:
    """The order is over, the last entry of the journal about it says how, and a retry gets to know it."""
    kind = scenario.decides.split(".")[0]
    journal = fleet.service.journal
    assert journal.running() == []
    found = journal.operation_by_key(ORDER.key)
    assert (found is not None) == begun
    if found is None:
        return
    operation = found[0]
    about = [entry for entry in journal.entries(limit=1000) if entry.operation == operation.id]
    assert operation.step is (Step.DONE if decided else Step.UNDONE)
    assert operation.ended_at is not None
    ends = (f"{kind}.done", f"{kind}.finished") if decided else (f"{kind}.undone",)
    assert about[-1].action in ends
    assert sum(entry.action in ends for entry in about) == 1, "it ended twice"
    assert await scenario.give(fleet) == operation, "the same order under the same key was begun again"


async def check_health(fleet, answers) -> None:
    """Journal, store and engine agree; each name answers from its revision only; and another swap works."""
    service = fleet.service
    assert await service.ready()
    assert service.journal.verify() is None
    assert [finding for finding in await service.control.verify() if not finding.ok] == []
    assert {name: record.active for name, record in service.journal.planners().items()} == {
        planner.name: planner.revision.digest for planner in service.planners()
    }
    for name, means in names(fleet).items():
        for session in ("a", "b", "c", "d"):
            async with service.lease(name, session=session) as lease:
                text = (await service.engine.chat(QUESTION, lease.slot, Sampling(max_tokens=64))).text
            assert text == await answers(means.candidate if lease.role == "canary" else means.active)
    before = names(fleet)["one"]
    operation = await fleet.done(await swap(fleet, "four", force=True))
    assert operation.step is Step.DONE, operation.error
    assert names(fleet)["one"] == Names("four", previous=before.active)
    async with service.lease("one") as lease:
        text = (await service.engine.chat(QUESTION, lease.slot, Sampling(max_tokens=64))).text
    assert text == await answers("four")
    assert fleet.starts.violations == []


async def check_restart(name: str, shelf, answers, folder: Path, passed: list[str]) -> None:
    """Start again after a death that followed these moments, and see that all is as decided by then."""
    scenario = SCENARIOS[name]
    decided = f"after write {scenario.decides}" in passed
    fleet = fleet_at(folder, shelf, {planner: planner for planner in scenario.planners})
    try:
        await fleet.start()
        assert names(fleet) == (scenario.after if decided else scenario.before)
        kind = scenario.decides.split(".")[0]
        await check_order(fleet, scenario, f"after write {kind}.begun" in passed, decided)
        await check_health(fleet, answers)
    finally:
        await fleet.close()


async def test_a_swap_killed_at_any_moment(nursery, shelf, answers, moments, tmp_path):
    """Before and after each journal write, the admission, and each engine call: old or new, never between."""
    every = moments("swap")
    kinds = {moment.split()[1] for moment in every}
    assert kinds == {"write", "admit", "load", "score", "chat"}, "the old revision is kept for a rollback"
    for at in range(len(every)):
        folder = tmp_path / str(at)
        die(nursery, shelf, "live", "swap", folder, at)
        await check_restart("swap", shelf, answers, folder, every[: at + 1])


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in ("swap", "apply")])
async def test_any_other_order_killed_after_any_write(name, nursery, shelf, answers, moments, tmp_path):
    """What the journal holds decides alone, whichever order it was and whatever was loaded."""
    every = moments(name)
    assert f"after write {SCENARIOS[name].decides}" in every
    for at in rows(every):
        folder = tmp_path / str(at)
        die(nursery, shelf, "live", name, folder, at)
        await check_restart(name, shelf, answers, folder, every[: at + 1])


async def test_an_apply_killed_after_any_write(nursery, shelf, answers, moments, tmp_path):
    """Several planners' decisions are several writes; the start brings all of them to what the file says."""
    every = moments("apply")
    scenario = SCENARIOS["apply"]
    decisions = {f"after write apply.{what}" for what in ("flipped", "declared", "removed")}
    assert decisions < set(every)
    for at in rows(every):
        folder, decided = tmp_path / str(at), bool(decisions & set(every[: at + 1]))
        die(nursery, shelf, "live", "apply", folder, at)
        fleet = fleet_at(folder, shelf, scenario.declared)
        try:
            await fleet.start()
            assert names(fleet) == scenario.after
            assert set(fleet.service.journal.planners()) == set(scenario.after)
            await check_order(fleet, scenario, "after write apply.begun" in every[: at + 1], decided)
            await check_health(fleet, answers)
        finally:
            await fleet.close()


@pytest.mark.parametrize("after", ["after write swap.begun", "after write swap.flipped"])
async def test_a_start_killed_while_it_mends_what_was_left(after, nursery, shelf, answers, moments, tmp_path):
    """The second start after a crash finds what the first one did of its work, and does the rest once."""
    every = moments("swap")
    died = every.index(after)
    left = tmp_path / "left"
    die(nursery, shelf, "live", "swap", left, died)
    whole = tmp_path / "whole"
    shutil.copytree(left, whole)
    child = nursery.start("dying_fleet:start", whole, "swap", str(shelf.root.parent), str(whole), "-1")
    assert child.wait() == 0, child.err
    starting = json.loads((whole / "moments.json").read_text())
    assert "after write server.started" in starting
    for at in rows(starting):
        folder = tmp_path / str(at)
        shutil.copytree(left, folder)
        die(nursery, shelf, "start", "swap", folder, at)
        await check_restart("swap", shelf, answers, folder, every[: died + 1])


async def test_a_first_start_killed_at_any_moment(nursery, shelf, answers, tmp_path):
    """Nothing is promised before planners answer; what was written by then does not hinder the next start."""
    whole = tmp_path / "whole"
    child = nursery.start("dying_fleet:start", whole, "swap", str(shelf.root.parent), str(whole), "-1")
    assert child.wait() == 0, child.err
    starting = json.loads((whole / "moments.json").read_text())
    assert starting.count("after write planner.serves") == 2
    for at in [n for n, moment in enumerate(starting) if "score" not in moment]:
        folder = tmp_path / str(at)
        die(nursery, shelf, "start", "swap", folder, at)
        await check_restart("swap", shelf, answers, folder, [])


@pytest.fixture
def tried(shelf, tmp_path):
    """``await tried()``: a folder whose last server tried adapter b as planner one's canary."""

    async def make() -> Path:
        fleet = fleet_at(tmp_path, shelf, {"one": "one", "two": "two"}, slots=2)
        await fleet.start()
        assert (await fleet.done(await canary(fleet, "b"))).step is Step.DONE
        await fleet.close()
        return tmp_path

    return make


async def restarted(folder: Path, shelf, declared: dict[str, str], slots: int):
    """The fleet started again, and the journal's last word about planner one."""
    fleet = fleet_at(folder, shelf, declared, slots)
    await asyncio.wait_for(fleet.start(), 30)
    return fleet, fleet.service.journal.entries("one", newest_first=True, limit=1)[0]


async def test_a_canary_comes_back_with_as_few_slots_as_it_had(shelf, tried):
    """It and its planner take both slots; the other planner, loaded first to prove it, is evicted again."""
    fleet, _ = await restarted(await tried(), shelf, {"one": "one", "two": "two"}, 2)
    assert names(fleet)["one"] == Names("one", candidate="b")
    assert [planner.state for planner in fleet.service.planners()] == ["serving", "evicted"]
    await fleet.close()


async def test_a_canary_without_a_slot_is_given_up(shelf, tried, monkeypatch):
    """The start does not wait for ever for what cannot be; the planner serves, and the journal says why."""
    monkeypatch.setattr(local_replica, "_PATIENCE", 0.1)
    fleet, last = await restarted(await tried(), shelf, {"one": "one", "two": "two"}, 1)
    assert names(fleet)["one"] == Names("one")
    assert await fleet.service.ready()
    assert (last.action, last.actor) == ("planner.serves", "s3lora-serve")
    assert last.reason.startswith("candidate 333333333333 is given up: no slot came free")
    await fleet.close()


async def test_an_edit_while_nothing_ran_gives_the_canary_up(shelf, tried):
    """As an apply does: the candidate may be the very revision that is declared now."""
    fleet, last = await restarted(await tried(), shelf, {"one": "b", "two": "two"}, 2)
    assert names(fleet)["one"] == Names("b", previous="one")
    assert (last.action, last.actor) == ("planner.serves", "planners.yaml")
    assert last.reason == "candidate 333333333333 is given up: planners.yaml was edited while nothing ran"
    await fleet.close()
