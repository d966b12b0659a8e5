"""The fake engine fails in every way that a real one was seen to, and records broken rules of the port."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace

import pytest
from contract import HELLO, TOKENS, until
from fake_starts import FakeStarts
from faulty_engine import FaultyEngine

from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineDead, EngineError, SlotLoadError

LONG = Sampling(max_tokens=50)


@pytest.fixture
def engine():
    """An engine whose requests take some steps."""
    return FaultyEngine(seconds_per_token=0.001)


@pytest.fixture
def slot(adapter, new_slot):
    """A slot that is not loaded."""
    return new_slot(adapter(seed=1))


@pytest.fixture
def own_slot(adapter, new_slot, tmp_path):
    """A slot whose files the test may change."""
    return new_slot(shutil.copytree(adapter(seed=1), tmp_path / "adapter"))


# Loads


async def test_a_failed_load_can_leave_its_id_listed(engine, slot, new_slot):
    """With ``half`` the engine lists the id, which takes a place until it is unloaded; it never serves."""
    engine.fail_load(slot.name, half=True)
    with pytest.raises(SlotLoadError, match="injected fault"):
        await engine.load(slot)
    assert await engine.loaded() == {slot.id}
    with pytest.raises(EngineError, match="is not loaded"):
        await engine.score(TOKENS, slot)
    await engine.unload(slot)
    assert await engine.loaded() == frozenset()
    engine.mend_loads()
    await engine.load(new_slot(slot.path))


async def test_a_load_can_hang_and_be_let_go(engine, slot):
    """It is not done before the gate opens, then it is."""
    gate = engine.hold_loads("test@*")
    loading = asyncio.create_task(engine.load(slot))
    await until(lambda: gate.waiting)
    assert await engine.loaded() == frozenset()
    gate.open()
    await loading
    assert await engine.loaded() == {slot.id}


async def test_a_cancelled_load_burns_its_id(engine, slot):
    """How far the load came is unknown, so the id is never used again."""
    gate = engine.hold_loads(slot.name)
    loading = asyncio.create_task(engine.load(slot))
    await until(lambda: gate.waiting)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    gate.open()
    with pytest.raises(SlotLoadError, match="failed before"):
        await engine.load(slot)
    assert engine.violations == [f"load: slot id {slot.id} failed before and is out of use"]


async def test_a_slow_load_lets_others_run(engine, slot):
    """Requests are answered while it goes on."""
    engine.slow_load(slot.name, 0.05)
    loading = asyncio.create_task(engine.load(slot))
    await engine.score(TOKENS, None)
    assert not loading.done()
    await loading


async def test_a_slot_can_be_lost_and_an_unknown_one_appear(engine, slot):
    """``loaded`` follows neither what was loaded nor what was unloaded: it is what the engine has."""
    await engine.load(slot)
    engine.forget(slot)
    engine.invent(77)
    assert await engine.loaded() == {77}
    with pytest.raises(EngineError, match="is not loaded"):
        await engine.chat(HELLO, slot, LONG)
    await engine.unload(replace(slot, id=77))
    assert await engine.loaded() == frozenset()


# Death


@pytest.mark.parametrize("call", ["load", "unload", "score", "stream"])
async def test_it_can_die_in_the_middle_of_a_call(engine, slot, call):
    """The call raises EngineDead, and so does every later one."""
    if call != "load":
        await engine.load(slot)
    engine.die_during(call, slot.name)
    calls = {
        "load": lambda: engine.load(slot),
        "unload": lambda: engine.unload(slot),
        "score": lambda: engine.score(TOKENS, slot),
        "stream": lambda: engine.chat(HELLO, slot, LONG),
    }
    with pytest.raises(EngineDead):
        await calls[call]()
    assert not await engine.healthy()
    with pytest.raises(EngineDead):
        await engine.loaded()


async def test_it_can_die_after_some_words_of_a_stream(engine, slot, client_of):
    """The words before are sent, then an error event; its facts count them, other slots' requests pass."""
    facts = []
    engine.observe(facts.append)
    await engine.load(slot)
    engine.die_during("stream", slot.name, after=3)
    await engine.chat(HELLO, None, Sampling(max_tokens=5))
    async with client_of(engine.openai_app()) as http:
        body = {"model": slot.name, "messages": HELLO, "stream": True}
        answer = await http.post("/v1/chat/completions", json=body)
    assert "EngineDeadError" in answer.text
    assert [(f.outcome, f.output_tokens) for f in facts] == [("ok", 5), ("error", 3)]
    assert engine.running(slot) == 0


@pytest.mark.parametrize("what", ["load", "request"])
async def test_death_ends_what_hangs(engine, slot, what):
    """A hanging load or request raises EngineDead once the engine dies."""
    gate = engine.hold_loads("*") if what == "load" else engine.hold_requests("")
    call = engine.load(slot) if what == "load" else engine.chat(HELLO, None, LONG)
    hanging = asyncio.create_task(call)
    await until(lambda: gate.waiting)
    engine.die()
    with pytest.raises(EngineDead):
        await hanging


async def test_files_that_go_under_a_request_kill_it(engine, own_slot):
    """A step may reread the files; without them the engine dies, for all requests."""
    await engine.load(own_slot)
    request = asyncio.create_task(engine.chat(HELLO, own_slot, LONG))
    other = asyncio.create_task(engine.chat(HELLO, None, LONG))
    await until(lambda: engine.running(own_slot))
    shutil.rmtree(own_slot.path)
    results = await asyncio.gather(request, other, return_exceptions=True)
    assert [type(result) for result in results] == [EngineDead, EngineDead]
    assert engine.violations == [f"files: those of slot {own_slot.name} went before it was unloaded"]


# Requests


async def test_requests_can_hang(engine, slot):
    """Those that match run and count, and end when let go or cancelled; the others are answered."""
    await engine.load(slot)
    gate = engine.hold_requests(slot.name)
    hanging = [asyncio.create_task(engine.chat(HELLO, slot, LONG)) for _ in range(2)]
    await until(lambda: gate.waiting == 2)
    assert (engine.running(slot), (await engine.chat(HELLO, None, LONG)).facts.outcome) == (2, "ok")
    hanging[0].cancel()
    await asyncio.gather(hanging[0], return_exceptions=True)
    assert engine.running(slot) == 1
    gate.open()
    assert (await hanging[1]).facts.outcome == "ok"


# Laws


async def test_a_right_use_violates_nothing(engine, adapter, new_slot):
    """Load, ask, unload, and the same adapter again under a new id: no violation."""
    for _ in range(2):
        slot = new_slot(adapter(seed=1))
        await engine.load(slot)
        await engine.load(slot)
        await engine.chat(HELLO, slot, LONG)
        await engine.unload(slot)
        await engine.unload(slot)
    assert engine.violations == []


async def test_unloading_under_a_request_is_a_violation(engine, slot):
    """It is refused and noted."""
    await engine.load(slot)
    request = asyncio.create_task(engine.chat(HELLO, slot, LONG))
    await until(lambda: engine.running(slot))
    with pytest.raises(EngineError, match="has 1 running request; unload it once"):
        await engine.unload(slot)
    await request
    assert engine.violations == [f"unload: slot {slot.name} has 1 running request"]


@pytest.mark.parametrize(
    ("again", "says"),
    [
        (lambda s, other: replace(s, path=other), "slot id {id} was used before"),
        (lambda s, other: replace(s, id=s.id + 10**6, path=other), "stood for other weights before"),
    ],
    ids=["the id", "the name"],
)
async def test_reuse_is_a_violation(engine, slot, adapter, again, says):
    """An id serves one load; a name one adapter: its answers are cached under the name."""
    await engine.load(slot)
    await engine.unload(slot)
    await engine.load(again(slot, adapter(seed=2)))
    assert says.format(id=slot.id) in " ".join(engine.violations)


async def test_changed_files_are_a_violation(engine, own_slot):
    """They must stay as they are for as long as the slot is loaded."""
    await engine.load(own_slot)
    weights = own_slot.path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    await engine.unload(own_slot)
    assert engine.violations == [f"files: those of slot {own_slot.name} changed while it was loaded"]


async def test_asking_for_a_slot_that_is_not_loaded_is_a_violation(engine, slot):
    """A caller that holds a lease never does this."""
    with pytest.raises(EngineError):
        await engine.score(TOKENS, slot)
    assert engine.violations == [f"request: slot {slot.name} (id {slot.id}) is not loaded"]


# Starts


async def test_engines_can_be_started_one_after_the_other(slot):
    """Each is new; starts fail and hang when told to; the violations are those of all."""
    starts = FakeStarts(lambda: FaultyEngine(max_loras=2))
    first = await starts()
    with pytest.raises(EngineError):
        await first.score(TOKENS, slot)
    starts.fail_next(1)
    with pytest.raises(EngineError, match="did not start"):
        await starts()
    gate = starts.hold()
    starting = asyncio.create_task(starts())
    await until(lambda: gate.waiting)
    gate.open()
    second = await starting
    assert (starts.engines, starts.current, starts.calls) == ([first, second], second, 3)
    assert (second.capacity, starts.violations) == (2, first.violations)
