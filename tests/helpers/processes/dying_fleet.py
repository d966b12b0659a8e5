"""What the crash tests do to a fleet: one order each, given by a process that dies at a chosen moment."""

from __future__ import annotations

import asyncio
import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import fleet_factory as fleets
from deaths import Deaths
from fleet_factory import Fleet, Shelf, desired, make_fleet

from s3lora_serve.config import SwapConfig
from s3lora_serve.control.operation import Operation, Order, Wanted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

ORDER = Order(actor="alice@desk", reason="better plans", key="the order under test")
SOURCES = ("one", "two", "four", "b", "c", "d")
SLOTS = 8


@dataclass(frozen=True)
class Names:
    """What one planner's name means, by the sources of its revisions."""

    active: str
    previous: str | None = None
    candidate: str | None = None


@dataclass(frozen=True)
class Scenario:
    """``prepare``, then ``give`` the order under test. ``decides`` is the entry that makes it true."""

    give: Callable[[Fleet], Awaitable[Operation]]
    decides: str
    before: Mapping[str, Names]
    after: Mapping[str, Names]
    prepare: Callable[[Fleet], Awaitable[None]] | None = None
    planners: tuple[str, ...] = ("one", "two")
    declared: Mapping[str, str] = field(default_factory=dict)  # planner → source, as planners.yaml then says


async def swap(fleet: Fleet, source: str, order: Order | None = None, **more) -> Operation:
    """Order planner one to serve this adapter."""
    return await fleet.service.control.swap("one", Wanted(source=source), order or Order("bob"), **more)


async def canary(fleet: Fleet, source: str | None, order: Order | None = None, share=0.5) -> Operation:
    """Order an adapter to be tried on half of planner one's requests, or another share of them."""
    wanted = Wanted(source=source) if source else None
    return await fleet.service.control.canary("one", wanted, order or Order("bob"), share=share)


def declarations(sources: Mapping[str, str]):
    """What planners.yaml would say."""
    return {name: desired(source) for name, source in sources.items()}


async def _swapped(fleet: Fleet) -> None:
    await fleet.done(await swap(fleet, "b"))


async def _swapped_twice(fleet: Fleet) -> None:
    await fleet.done(await swap(fleet, "b"))
    await fleet.done(await swap(fleet, "c"))


async def _on_trial(fleet: Fleet) -> None:
    await fleet.done(await canary(fleet, "b"))


def _roll_back(to: str | None = None):
    def give(fleet: Fleet):
        goal = fleet.shelf.revisions[to].digest if to else None
        return fleet.service.control.rollback("one", ORDER, to=goal)

    return give


_TWO = Names("two")
_APPLIED = {"one": "b", "two": "d", "three": "c"}
SCENARIOS = {
    "swap": Scenario(
        lambda fleet: swap(fleet, "b", ORDER),
        "swap.flipped",
        before={"one": Names("one"), "two": _TWO},
        after={"one": Names("b", previous="one"), "two": _TWO},
    ),
    "swap that gives a canary up": Scenario(
        lambda fleet: swap(fleet, "c", ORDER, force=True),
        "swap.flipped",
        prepare=_on_trial,
        before={"one": Names("one", candidate="b"), "two": _TWO},
        after={"one": Names("c", previous="one"), "two": _TWO},
    ),
    "rollback to what is loaded": Scenario(
        _roll_back(),
        "rollback.flipped",
        prepare=_swapped,
        before={"one": Names("b", previous="one"), "two": _TWO},
        after={"one": Names("one", previous="b"), "two": _TWO},
    ),
    "rollback to what is in the store": Scenario(
        _roll_back("one"),
        "rollback.flipped",
        prepare=_swapped_twice,
        before={"one": Names("c", previous="b"), "two": _TWO},
        after={"one": Names("one", previous="c"), "two": _TWO},
    ),
    "rollback of a canary": Scenario(
        _roll_back(),
        "rollback.flipped",
        prepare=_on_trial,
        before={"one": Names("one", candidate="b"), "two": _TWO},
        after={"one": Names("one"), "two": _TWO},
    ),
    "canary": Scenario(
        lambda fleet: canary(fleet, "b", ORDER),
        "canary.flipped",
        before={"one": Names("one"), "two": _TWO},
        after={"one": Names("one", candidate="b"), "two": _TWO},
    ),
    "promotion": Scenario(
        lambda fleet: fleet.service.control.promote("one", ORDER),
        "promote.flipped",
        prepare=_on_trial,
        before={"one": Names("one", candidate="b"), "two": _TWO},
        after={"one": Names("b", previous="one"), "two": _TWO},
    ),
    "apply": Scenario(
        lambda fleet: fleet.service.control.apply(declarations(_APPLIED), ORDER),
        "apply.flipped",
        before={name: Names(name) for name in ("one", "two", "four")},
        after={"one": Names("b", previous="one"), "two": Names("d", previous="two"), "three": Names("c")},
        planners=("one", "two", "four"),
        declared=_APPLIED,
    ),
}


def shelve(root: Path) -> Shelf:
    """The adapters of every scenario, written so that other processes find them with ``shelf_at``."""
    shelf = Shelf(root)
    for source in SOURCES:
        shelf.put(source)
    (root / "shelf.pickle").write_bytes(pickle.dumps(shelf.revisions))
    return shelf


def shelf_at(root: Path) -> Shelf:
    """What ``shelve`` made there."""
    shelf = Shelf(root)
    shelf.revisions = pickle.loads((root / "shelf.pickle").read_bytes())
    return shelf


def fleet_at(folder: Path, shelf: Shelf, declared: Mapping[str, str], slots: int = SLOTS) -> Fleet:
    """A server's inside over the state file in this folder; it is not started."""
    fleet = make_fleet(folder, shelf=shelf, max_loras=slots, swap=SwapConfig(drain_seconds=5))
    fleet.desired = declarations(declared)
    return fleet


def live(name: str, shelf: str, folder: str, at: str) -> None:
    """Carry the scenario out, dying at its moment number ``at`` (-1: never); then write the moments down."""
    scenario, deaths = SCENARIOS[name], Deaths(int(at), armed=False)
    deaths.install(fleets.Shelf)
    asyncio.run(_live(scenario, fleet_at(Path(folder), shelf_at(Path(shelf)), _names(scenario)), deaths))
    Path(folder, "moments.json").write_text(json.dumps(deaths.moments))


def start(name: str, shelf: str, folder: str, at: str) -> None:
    """Start over what is in the folder, dying at moment number ``at`` of that."""
    deaths = Deaths(int(at))
    deaths.install(fleets.Shelf)
    fleet = fleet_at(Path(folder), shelf_at(Path(shelf)), SCENARIOS[name].declared or _names(SCENARIOS[name]))
    asyncio.run(_started(fleet))
    Path(folder, "moments.json").write_text(json.dumps(deaths.moments))


def _names(scenario: Scenario) -> dict[str, str]:
    return {name: name for name in scenario.planners}


async def _started(fleet: Fleet) -> None:
    await fleet.start()
    await fleet.close()


async def _live(scenario: Scenario, fleet: Fleet, deaths: Deaths) -> None:
    await fleet.start()
    if scenario.prepare is not None:
        await scenario.prepare(fleet)
    deaths.arm()
    operation = await fleet.done(await scenario.give(fleet))
    assert operation.step == "done", operation
    await fleet.close()
