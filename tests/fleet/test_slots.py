"""Slots: what the engine must never be told twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from s3lora_serve.errors import SlotLoadError
from s3lora_serve.fleet.slots import RETIRED, SlotTable, slot_name

DIGEST = "0123456789ab" + "c" * 52
ALIASES = st.text(st.characters(codec=None), min_size=1, max_size=20)
DIGESTS = st.sampled_from(["a" * 64, "b" * 64, "c" * 64])


def test_name_is_alias_and_short_digest():
    """A planner's slot is recognisable in the engine's own logs."""
    assert slot_name("hotpot-qa.v2", DIGEST) == "hotpot-qa.v2@0123456789ab"


@given(alias=ALIASES, digest=DIGESTS)
def test_name_is_safe_for_any_alias(alias, digest):
    """Whatever the alias, the name holds no slash, space or control character before the digest."""
    name, _, short = slot_name(alias, digest).partition("@")
    assert (set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"), short) == (
        True,
        digest[:12],
    )


@given(one=ALIASES, other=ALIASES)
def test_different_aliases_have_different_names(one, other):
    """Two planners never share a slot name, even if cleaning their names makes these look alike."""
    same_name = slot_name(one, DIGEST) == slot_name(other, DIGEST)
    assert same_name == (one == other)


def test_a_name_in_use_is_not_given_again():
    """A second live slot of the same name is refused, with the id that holds it."""
    table = SlotTable()
    table.allocate("p", DIGEST, Path("/store/x"))
    with pytest.raises(SlotLoadError) as refused:
        table.allocate("p", DIGEST, Path("/store/x"))
    assert str(refused.value) == (
        "slot name 'p@0123456789ab' is held by slot 1; unload that slot before loading it again"
    )


def test_a_retired_name_comes_back_under_a_new_id():
    """The same revision can be loaded again once the engine forgot it, never under its old id."""
    table = SlotTable()
    first = table.allocate("p", DIGEST, Path("/store/x"))
    table.retire(first)
    again = table.allocate("p", DIGEST, Path("/store/x"))
    assert (again.name, again.id) == (first.name, first.id + 1)


def test_a_late_request_still_finds_its_planner():
    """Facts of a request that ends after its slot was retired are still counted for its planner."""
    table = SlotTable()
    slot = table.allocate("p", DIGEST, Path("/store/x"))
    table.retire(slot)
    assert (table.planner_of(slot.name), table.planner_of("q@000000000000")) == ("p", None)


def test_names_of_swaps_long_ago_are_forgotten():
    """What is remembered does not grow with swaps; live slots and the last ones keep their planner."""
    table = SlotTable()
    kept = table.allocate("kept", DIGEST, Path("/store/x"))
    names = []
    for number in range(2 * RETIRED):
        slot = table.allocate("p", f"{number:064x}"[::-1], Path("/store/x"))
        names.append(slot.name)
        table.retire(slot)
    assert [table.planner_of(name) for name in (kept.name, names[-1], names[-RETIRED])] == ["kept", "p", "p"]
    assert {table.planner_of(name) for name in names[:-RETIRED]} == {None}


class SlotHistory(RuleBasedStateMachine):
    """Any order of allocating and retiring keeps ids unique and names unshared."""

    slots = Bundle("slots")

    def __init__(self):
        super().__init__()
        self.table = SlotTable()
        self.given: list[int] = []
        self.live: dict[str, int] = {}

    @rule(target=slots, alias=st.sampled_from(["p", "q", "a b", "a/b"]), digest=DIGESTS)
    def allocate(self, alias, digest):
        """A free name gets the next id; a held one is refused and uses none up."""
        name = slot_name(alias, digest)
        if name in self.live:
            with pytest.raises(SlotLoadError):
                self.table.allocate(alias, digest, Path("/store") / digest)
            return None
        slot = self.table.allocate(alias, digest, Path("/store") / digest)
        self.given.append(slot.id)
        self.live[name] = slot.id
        assert self.table.planner_of(slot.name) == alias
        return slot

    @rule(slot=slots)
    def retire(self, slot):
        """Retiring twice, or an older slot of the name, changes nothing."""
        if slot is not None:
            self.table.retire(slot)
            if self.live.get(slot.name) == slot.id:
                del self.live[slot.name]

    @invariant()
    def ids_rise_and_names_are_unshared(self):
        """Ids are 1, 2, 3, ... as given; the live slots are those that were not retired."""
        assert self.given == list(range(1, len(self.given) + 1))
        assert {slot.name: slot.id for slot in self.table.live} == self.live


TestSlotHistory = SlotHistory.TestCase
