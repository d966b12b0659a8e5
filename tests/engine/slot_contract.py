"""What every engine must do with its slots: load, list, refuse, answer by name, unload; one test each.

A mixin for subclasses of ``EngineContract``, whose fixtures it uses.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from bad_folders import bad_folder
from contract import HELLO, TOKENS, distance, until
from dictated import endless

from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineError, SlotLoadError


async def forever(look):
    """Call ``look`` at every turn of the event loop."""
    while True:
        look()
        await asyncio.sleep(0)


class SlotContract:
    """``load``, ``unload``, ``loaded`` and ``running`` of the port, and slots as models of the OpenAI app."""

    # Loading

    async def test_a_loaded_slot_is_listed_and_an_unloaded_one_is_not(self, engine, adapter, load):
        """``loaded`` follows load and unload; a second load or unload of the same slot changes nothing."""
        before = await engine.loaded()
        slot = await load(adapter(seed=1))
        await engine.load(slot)
        assert before | {slot.id} == await engine.loaded()
        await engine.unload(slot)
        await engine.unload(slot)
        assert before == await engine.loaded()

    async def test_progress_shows_that_it_lives(self, engine, adapter, load):
        """Each answered call and each step is another sign; requests are counted while they run."""
        signs, running = engine.progress().signs, engine.progress().running
        await engine.loaded()
        assert engine.progress().signs > signs
        slot = await load(adapter(seed=1))
        signs = engine.progress().signs
        call = asyncio.create_task(engine.chat(HELLO, slot, endless(20)))
        await until(lambda: engine.progress().running == running + 1)
        await call
        assert engine.progress().running == running
        assert engine.progress().signs > signs
        signs = engine.progress().signs
        await engine.unload(slot)
        assert engine.progress().held == ""
        assert engine.progress().signs > signs

    @pytest.mark.parametrize(
        ("defect", "says"),
        [
            ("missing", "does not exist; the revision is gone from the store"),
            ("no weights", "adapter_model.safetensors does not exist"),
            ("no tensors", "holds no tensors; a fully pruned adapter is the base model"),
            ("not safetensors", "is not a safetensors file"),
            ("relative", "path adapters/x is relative; give the absolute path"),
            ("rank", r"rank 32 is greater than max_lora_rank 16\D.*raise engine.max_lora_rank"),
        ],
    )
    async def test_a_bad_adapter_is_refused_and_hurts_nobody(
        self, engine, adapter, load, new_slot, noise, tmp_path, defect, says
    ):
        """The refusal names defect and next step, the others serve on, and the id is out of use for good."""
        good = await load(adapter(seed=1))
        expected = await engine.score(TOKENS, good)
        listed = await engine.loaded()
        slot = new_slot(bad_folder(defect, tmp_path, adapter))
        with pytest.raises(SlotLoadError, match=says):
            await engine.load(slot)
        assert listed == await engine.loaded()
        assert distance(expected, await engine.score(TOKENS, good)) <= noise
        with pytest.raises(SlotLoadError, match=f"slot id {slot.id} failed before"):
            await engine.load(replace(slot, path=adapter(seed=1)))

    async def test_ids_and_names_are_not_shared(self, engine, adapter, load, new_slot):
        """Neither another adapter under a loaded id nor a second id under a loaded name is let in."""
        slot = await load(adapter(seed=1))
        with pytest.raises(SlotLoadError, match=f"slot id {slot.id} is taken by {slot.name}"):
            await engine.load(replace(slot, name="someone@else"))
        with pytest.raises(SlotLoadError, match=f"slot name {slot.name} is taken by id {slot.id}"):
            await engine.load(replace(new_slot(slot.path), name=slot.name))
        assert slot.id in await engine.loaded()

    async def test_a_full_engine_refuses_rather_than_drop_a_slot(self, engine, adapter, load):
        """One slot more than ``max_loras`` is refused, and all that were loaded stay."""
        slots = [await load(adapter(seed=n)) for n in range(self.MAX_LORAS - len(await engine.loaded()))]
        with pytest.raises(SlotLoadError, match=f"all {self.MAX_LORAS} slots are taken"):
            await load(adapter(seed=9))
        assert {slot.id for slot in slots} <= await engine.loaded()

    async def test_a_slot_that_is_not_loaded_cannot_be_used(self, engine, adapter, new_slot, http):
        """Nothing loads a slot on the side: score, chat and the app refuse it."""
        slot = new_slot(adapter(seed=1))
        with pytest.raises(EngineError, match="is not loaded; load it first"):
            await engine.score(TOKENS, slot)
        with pytest.raises(EngineError, match="is not loaded"):
            await engine.chat(HELLO, slot, Sampling(max_tokens=1))
        answer = await http.post("/v1/completions", json={"model": slot.name, "prompt": "x"})
        assert answer.status_code == 404
        assert slot.id not in await engine.loaded()

    # Names and use

    async def test_a_loaded_slot_answers_to_its_name(self, engine, adapter, load, http, facts):
        """``model=slot.name`` uses that slot, the base's name none; an unloaded slot's name is a 404."""
        one, two = [await load(adapter(seed=n)) for n in (1, 2)]
        body = {"messages": HELLO, "max_tokens": 2}
        for name in (one.name, two.name, engine.base_name, one.name):
            answer = await http.post("/v1/chat/completions", json={**body, "model": name})
            assert (200, name) == (answer.status_code, answer.json()["model"])
        assert [f.slot for f in facts] == [one.name, two.name, None, one.name]
        await engine.unload(one)
        gone = await http.post("/v1/chat/completions", json={**body, "model": one.name})
        still = await http.post("/v1/chat/completions", json={**body, "model": two.name})
        assert (gone.status_code, still.status_code) == (404, 200)

    async def test_no_slot_takes_the_base_models_name(self, engine, adapter, new_slot, http):
        """Such a load is refused, and the base's name goes on to mean the base model."""
        slot = replace(new_slot(adapter(seed=1)), name=engine.base_name)
        with pytest.raises(SlotLoadError, match=f"slot name {slot.name} is the base model's own name"):
            await engine.load(slot)
        listed = [card["id"] for card in (await http.get("/v1/models")).json()["data"]]
        assert listed.count(engine.base_name) == 1

    async def test_a_slot_in_use_is_not_unloaded(self, engine, adapter, load, http):
        """unload says how many requests run and changes nothing; once they have ended it works."""
        slot, other = await load(adapter(seed=1)), await load(adapter(seed=2))
        tasks = [asyncio.create_task(engine.chat(HELLO, slot, endless(500))) for _ in range(2)]
        await until(lambda: engine.running(slot) == 2)
        assert engine.running(other) == 0
        with pytest.raises(EngineError, match=f"slot {slot.name} has 2 running requests; unload it once"):
            await engine.unload(slot)
        body = {"model": slot.name, "prompt": "x", "max_tokens": 1}
        assert (await http.post("/v1/completions", json=body)).status_code == 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert engine.running(slot) == 0
        await engine.unload(slot)
        assert slot.id not in await engine.loaded()

    async def test_a_stream_counts_until_it_ends(self, engine, adapter, load, http):
        """A streamed request for several answers counts once, and no more once its stream has ended."""
        slot = await load(adapter(seed=1))
        body = {"model": slot.name, "messages": HELLO, "max_tokens": 8, "n": 2, "stream": True}
        seen = set()
        watch = asyncio.create_task(forever(lambda: seen.add(engine.running(slot))))
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        watch.cancel()
        assert (seen - {0}, engine.running(slot)) == ({1}, 0)
