"""A base model that adapters leak into cannot guard, and is found out."""

from __future__ import annotations

import pytest
from leaky_engine import LeakyEngine

from s3lora_serve.errors import EngineError
from s3lora_serve.safety.guard.proof.unharmed import check_unharmed

QUIET = 0.05  # the fake has no noise, and its adapters move scores by less than half a nat


@pytest.fixture
async def leaky(adapter, new_slot):
    """An engine with two loaded slots, and them; it does not leak yet."""
    engine = LeakyEngine(seconds_per_token=0.001)
    slots = [new_slot(adapter(seed=n)) for n in (1, 2)]
    for slot in slots:
        await engine.load(slot)
    return engine, slots


async def test_a_base_that_is_itself_passes(leaky):
    """By nothing in an engine without noise; and with adapters that move scores a leak would have shown."""
    engine, slots = leaky
    found = await check_unharmed(engine, slots, rounding=QUIET)
    assert (found.distance, found.noise, found.holds, found.tells, found.slots) == (0.0, 0.0, True, True, 2)
    assert engine.violations == []


async def test_a_leak_into_scores_is_found(leaky):
    """By as much as the adapter itself moves them."""
    engine, slots = leaky
    engine.scores = True
    found = await check_unharmed(engine, slots, rounding=QUIET)
    assert (found.holds, found.distance > QUIET) == (False, True)
    assert "is NOT itself beside 2 adapters" in str(found)


async def test_a_leak_into_what_is_generated_is_found(leaky):
    """Tokens that the base model alone finds much less likely than its own."""
    engine, slots = leaky
    engine.generates = True
    assert not (await check_unharmed(engine, slots, rounding=QUIET)).holds


async def test_without_adapters_there_is_nothing_to_tell(leaky):
    """It holds, and says that it has shown nothing."""
    engine, _ = leaky
    found = await check_unharmed(engine, [])
    assert (found.holds, found.tells, found.slots) == (True, False, 0)


async def test_a_slot_that_went_is_an_error(leaky):
    """And whatever else was asked has ended when it is raised."""
    engine, slots = leaky
    await engine.unload(slots[1])
    with pytest.raises(EngineError, match="is not loaded"):
        await check_unharmed(engine, slots)
    assert [engine.running(slot) for slot in slots] == [0, 0]
