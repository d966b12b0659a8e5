"""planners.yaml applied to a fleet that serves: all of it, or nothing."""

from __future__ import annotations

import asyncio

import pytest
from fleet_factory import BASE, desired
from orders import ask, canary, held, order, serving, states, swap, until

from planners import ToolSpec
from s3lora_serve.control.operation import Step, Wanted
from s3lora_serve.errors import ConfigError, Conflict, StateError, UnknownPlanner


@pytest.fixture
async def fleet(fleet_of):
    """Planners p, q and r serve 0, 1 and 2; 3 and 4 lie under "new" and "newer"."""
    fleet = await fleet_of("p", "q", "r", max_loras=8).start()
    fleet.shelf.put("new")
    fleet.shelf.put("newer")
    return fleet


def wants(fleet, **changes):
    """What is declared now, with changes; None takes a planner out."""
    declared = {name: fleet.service._fleet.alias(name).desired for name in fleet.service._fleet.names()}
    return {name: want for name, want in {**declared, **changes}.items() if want is not None}


async def apply(fleet, **changes):
    """Apply, and wait for the end."""
    return await fleet.done(await fleet.control.apply(wants(fleet, **changes), order()))


def kinds(operation):
    """What changes, by planner."""
    return {change["planner"]: change["what"] for change in operation.details["changes"]}


async def test_everything_at_once(fleet):
    """One planner is added, one changed, one removed, one only described; requests find it so afterwards."""
    done = await apply(
        fleet, p=desired("new"), q=desired("q", description="told"), r=None, s=desired("newer")
    )
    assert (done.step, kinds(done)) == (
        Step.DONE,
        {"p": "changed", "q": "described", "s": "added", "r": "removed"},
    )
    assert [await ask(fleet, name) for name in ("p", "q", "s")] == ["3", "1", "4"]
    with pytest.raises(UnknownPlanner):
        await ask(fleet, "r")
    assert (fleet.service.get("q").description, fleet.service.get("p").previous[0]) == ("told", "0")
    assert set(fleet.service.journal.planners()) == {"p", "q", "s"}
    assert fleet.service._fleet.of("r") == ()
    assert b'planner="s"' in fleet.service.metrics.exposition()
    assert [finding for finding in await fleet.control.verify() if not finding.ok] == []


async def test_the_history_names_the_revisions_of_each_planner(fleet):
    """An apply is about several: each entry has its own planner, what served and what serves then."""
    await apply(fleet, p=desired("new"), r=None, s=desired("newer"))
    names = {None: None, **{r.digest: source for source, r in fleet.shelf.revisions.items()}}
    entries = [e for e in fleet.service.journal.entries() if e.operation and e.action != "deployment.loaded"]
    found = {(e.action, e.planner, names[e.from_digest], names[e.to_digest]) for e in entries}
    assert found == {
        ("apply.begun", None, None, None),
        ("revision.admitted", "p", None, "new"),
        ("revision.admitted", "s", None, "newer"),
        ("apply.flipped", "p", "p", "new"),
        ("apply.declared", "s", None, "newer"),
        ("apply.removed", "r", "r", None),
        ("deployment.drained", "p", "p", None),
        ("deployment.drained", "r", "r", None),
        ("deployment.unloaded", "r", "r", None),
        ("apply.done", None, None, None),
    }


async def test_a_planner_that_is_pinned_now_is_loaded(fleet_of):
    """Pinned means always loaded, also where an edit says so of a planner that had given its slot up."""
    fleet = await fleet_of("p", "q", "r", max_loras=2).start()
    assert states(fleet, "p") == {"0": "evicted"}
    done = await apply(fleet, p=desired("p", description="a test planner", pinned=True))
    assert (done.step, states(fleet, "p")) == (Step.DONE, {"0": "serving"})


async def test_an_error_says_of_which_planner(fleet):
    """Among several that are admitted, the operator learns which one stands in the way."""
    done = await apply(fleet, p=desired("new"), s=desired("nowhere"))
    assert (done.step, done.error["message"]) == (
        Step.FAILED,
        "planner 's': nowhere: there is no such adapter",
    )


async def test_only_tools_that_differ_are_shown(fleet):
    """A planner whose own tools alone are edited is described anew, and the difference says so."""
    done = await apply(fleet, q=desired("q", description="a test planner", tools=(ToolSpec(name="Search"),)))
    (change,) = done.details["changes"]
    before, after = change["before"], change["after"]
    assert (change["what"], before["tools"], after["tools"]) == ("described", [], ["Search"])
    assert {key for key in after if before[key] != after[key]} == {"tools"}


async def test_nothing_to_change_is_done_at_once(fleet):
    """The same declaration again begins and ends, and touches nothing."""
    seen = len(fleet.seen)
    done = await apply(fleet)
    assert (done.step, done.details["changes"], len(fleet.seen)) == (Step.DONE, [], seen)


async def test_a_swap_by_order_outlives_an_edit_elsewhere(fleet):
    """What an operator swapped is not undone by an apply that does not mention it."""
    await swap(fleet, "p", "new")
    await apply(fleet, q=desired("newer"))
    assert (serving(fleet, "p"), serving(fleet, "q")) == ("3", "4")


async def test_a_dry_run_shows_and_changes_nothing(fleet):
    """The difference is told; nothing is admitted or loaded."""
    dry = await fleet.control.apply(wants(fleet, p=desired("new"), r=None), order(), dry_run=True)
    assert (dry.step, kinds(dry)) == (Step.DONE, {"p": "changed", "r": "removed"})
    assert (serving(fleet, "p"), await ask(fleet, "r"), fleet.shelf.admitted) == ("0", "2", [])


def unknown_source(fleet, monkeypatch):
    return "nowhere"


def failing_load(fleet, monkeypatch):
    fleet.engine.fail_load("q@4*")
    return "newer"


def full_disk(fleet, monkeypatch):
    """The journal takes what is about p, and then nothing more about q."""
    write = fleet.service.journal.write

    def failing(*entries, **options):
        if any(e.planner == "q" and e.action == "apply.flipped" for e in entries):
            raise StateError("the disk is full")
        return write(*entries, **options)

    monkeypatch.setattr(fleet.service.journal, "write", failing)
    return "newer"


def failing_removal(fleet, monkeypatch):
    """All is loaded and flipped; then a removal cannot be written down."""
    write = fleet.service.journal.write

    def failing(*entries, **options):
        if any(e.action == "apply.removed" and e.planner == "r" for e in entries):
            raise StateError("the disk is full")
        return write(*entries, **options)

    monkeypatch.setattr(fleet.service.journal, "write", failing)
    return "newer"


@pytest.mark.parametrize("fault", [unknown_source, failing_load, full_disk, failing_removal])
async def test_all_or_nothing(fleet, monkeypatch, fault):
    """Whatever fails, at whatever point, every planner serves what it served, under its old declaration."""
    before = {name: fleet.service._fleet.alias(name) for name in ("p", "q", "r")}
    loaded = await fleet.running.loaded()
    source = fault(fleet, monkeypatch)
    failed = await apply(
        fleet, a=desired("new"), p=desired("new", description="x"), q=desired(source), r=None
    )
    assert (failed.step, failed.error is not None) == (Step.FAILED, True)
    for name, alias in before.items():
        now = fleet.service._fleet.alias(name)
        assert (now.active, now.previous, now.desired) == (alias.active, alias.previous, alias.desired)
        record = fleet.service.journal.planners()[name]
        assert (record.declared, record.active[:12]) == (alias.desired.declared, alias.active[-12:])
    assert [await ask(fleet, name) for name in ("p", "q", "r")] == ["0", "1", "2"]
    with pytest.raises(UnknownPlanner):
        await ask(fleet, "a")
    assert await fleet.running.loaded() == loaded
    assert [finding for finding in await fleet.control.verify() if not finding.ok] == []


async def test_an_undone_apply_gives_the_candidate_back(fleet):
    """A trial that the apply ended goes on when the apply is taken back."""
    await canary(fleet, "p", "new", share=0.5)
    fleet.engine.fail_load("q@4*")
    failed = await apply(fleet, p=desired("newer"), q=desired("newer"))
    assert failed.step is Step.FAILED
    assert states(fleet, "p") == {"0": "serving", "3": "canary"}
    assert fleet.service.journal.planners()["p"].rollout["share"] == 0.5


async def test_a_changed_planner_ends_its_trial(fleet):
    """The declared revision serves; the candidate is gone, and the old one is kept for a rollback."""
    await canary(fleet, "p", "new", share=0.5)
    await apply(fleet, p=desired("newer"))
    assert states(fleet, "p") == {"0": "standby", "4": "serving"}


async def test_a_removed_planner_finishes_what_it_began(fleet):
    """Its requests end well on their slot; only then is it unloaded. Standbys go at once."""
    await swap(fleet, "r", "new")
    async with held(fleet, "r"):
        operation = await fleet.control.apply(wants(fleet, r=None), order())
        await until(lambda: "r" not in fleet.service._fleet.names())
        with pytest.raises(UnknownPlanner):
            await ask(fleet, "r")
    assert (await fleet.done(operation)).step is Step.DONE
    assert fleet.service._fleet.of("r") == ()
    assert len(await fleet.running.loaded()) == 2


async def test_removed_and_added_again_while_it_drains(fleet):
    """The name comes back to the deployment that still drains, which serves on."""
    want = fleet.desired["r"]
    async with held(fleet, "r"):
        first = await fleet.control.apply(wants(fleet, r=None), order())
        await until(lambda: "r" not in fleet.service._fleet.names())
        assert (await apply(fleet, r=want)).step is Step.DONE
        assert await ask(fleet, "r") == "2"
    await fleet.done(first)
    assert states(fleet, "r") == {"2": "serving"}


async def test_another_source_of_the_same_revision_loads_nothing(fleet):
    """Only the declaration changes, in memory and in the journal."""
    fleet.shelf.revisions["same"] = fleet.shelf.revisions["p"]
    loads = len([d for d in fleet.seen if d.state == "loading"])
    assert (await apply(fleet, p=desired("same"))).step is Step.DONE
    assert fleet.service.journal.planners()["p"].declared == "declared same"
    assert (len([d for d in fleet.seen if d.state == "loading"]), await ask(fleet, "p")) == (loads, "0")
    assert (await apply(fleet)).details["changes"] == []


async def test_the_base_models_name_is_refused(fleet):
    """It would hide the base model; nothing is begun."""
    with pytest.raises(ConfigError, match="the name of the base model"):
        await apply(fleet, **{BASE: desired("new")})
    assert fleet.control.operations() == []


async def test_an_apply_waits_for_nobody_and_refuses_who_decides(fleet):
    """While a planner is being decided about, an apply that would change it is a conflict."""
    gate = fleet.engine.hold_loads("p@3*")
    first = await fleet.control.swap("p", Wanted(source="new"), order())
    with pytest.raises(Conflict, match="deciding about planner 'p'"):
        await fleet.control.apply(wants(fleet, p=desired("newer")), order())
    assert fleet.control.operations()[0].id == first.id
    gate.open()
    await fleet.done(first)


async def test_a_reload_applies_the_file(fleet_of):
    """What SIGHUP does: the file is read again and applied; an error in it changes nothing."""
    said = {}

    def read():
        if not said:
            raise ConfigError("planners.yaml: line 3")
        return said

    fleet = await fleet_of("p", read=read).start()
    fleet.shelf.put("new")
    with pytest.raises(ConfigError, match="line 3"):
        await fleet.control.reload(order())
    said.update(p=desired("new"))
    assert (await fleet.done(await fleet.control.reload(order()))).step is Step.DONE
    assert await ask(fleet, "p") == "1"


async def test_without_a_file_there_is_nothing_to_reload(fleet):
    """A server that was started without a planners.yaml says so."""
    with pytest.raises(ConfigError, match=r"without a planners\.yaml"):
        await fleet.control.reload(order())


async def test_the_engine_dies_in_the_middle(fleet):
    """The apply fails, and once the engine is back every planner serves what it served."""
    fleet.engine.die_during("score", "q@4*")
    failed = await apply(fleet, p=desired("new"), q=desired("newer"))
    assert failed.error["code"] == "engine_dead"
    await until(lambda: fleet.service.host.restarts and fleet.service.host.alive)
    assert [await ask(fleet, name) for name in ("p", "q", "r")] == ["0", "1", "2"]
    await asyncio.sleep(0.02)
    assert [finding for finding in await fleet.control.verify() if not finding.ok] == []


async def test_what_cannot_be_taken_back_is_let_go(fleet, monkeypatch):
    """A planner that stays as applied, as the disk is full, leaves no revision that drains for ever."""
    fleet.engine.fail_load("q@*", "torn")
    write = fleet.service.journal.write

    def full(*entries, **options):
        if any(entry.action == "apply.taken_back" for entry in entries):
            raise StateError("the disk is full")
        return write(*entries, **options)

    monkeypatch.setattr(fleet.service.journal, "write", full)
    done = await apply(fleet, p=desired("new"), q=desired("newer"))
    assert done.step is Step.FAILED
    assert (serving(fleet, "p"), states(fleet, "p")["0"]) == ("3", "standby")
