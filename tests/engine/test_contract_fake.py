"""The fake engine keeps the contract, and fails when told to."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from answer_contract import AnswerContract
from contract import HELLO, TOKENS, EngineContract
from faulty_engine import FaultyEngine
from slot_contract import SlotContract
from stream_contract import StreamContract
from token_contract import TokenContract

from s3lora_serve.engine.fake.fake_openai import UNGUARDED
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineDead, SlotLoadError


class TestFakeEngine(EngineContract, SlotContract, StreamContract, AnswerContract, TokenContract):
    """The whole contract, then what only a fake can do."""

    @pytest.fixture
    def engine(self):
        return FaultyEngine(max_loras=self.MAX_LORAS, seconds_per_token=0.002)

    @pytest.fixture
    def noise(self):
        return 0.0

    async def test_answers_repeat(self, engine, adapter, load):
        """The same text again, seed or not; another adapter gives its own. (vLLM's hang on the batch.)"""
        one, two = await load(adapter(seed=1)), await load(adapter(seed=2))
        texts = [(await engine.chat(HELLO, slot, Sampling(max_tokens=50))).text for slot in (one, one, two)]
        assert texts[0] == texts[1] != texts[2]

    async def test_it_can_refuse_a_load(self, engine, adapter, new_slot):
        """``fail_load`` fails the loads of matching slots with the given reason, and no others."""
        slot, other = new_slot(adapter(seed=1)), new_slot(adapter(seed=2))
        engine.fail_load(slot.name, "out of memory")
        with pytest.raises(SlotLoadError, match=f"{slot.name} could not be loaded: out of memory"):
            await engine.load(slot)
        await engine.load(other)
        assert {other.id} == await engine.loaded()

    async def test_it_can_ignore_an_adapter(self, engine, adapter, new_slot):
        """``no_effect`` takes a glob; a matching slot loads and scores as the base model."""
        engine.no_effect("test@*")
        slot = new_slot(adapter(seed=1))
        await engine.load(slot)
        assert await engine.score(TOKENS, None) == await engine.score(TOKENS, slot)

    async def test_it_can_die(self, engine, adapter, new_slot, client_of):
        """After ``die`` nothing works, running requests fail, and health says so."""
        facts = []
        engine.observe(facts.append)
        running = asyncio.create_task(engine.chat(HELLO, None, Sampling(max_tokens=50)))
        await asyncio.sleep(0.005)
        engine.die()
        with pytest.raises(EngineDead):
            await running
        assert ([f.outcome for f in facts], await engine.healthy()) == (["error"], False)
        slot = new_slot(adapter(seed=1))
        for call in (
            engine.load(slot), engine.unload(slot), engine.loaded(), engine.score(TOKENS, None),
            engine.chat(HELLO, None, Sampling(max_tokens=1)), engine.chat_tokens(HELLO),
            engine.continue_tokens(TOKENS, None, Sampling(max_tokens=1)),
            anext(engine.stream(HELLO, None, Sampling(max_tokens=1))),
        ):  # fmt: skip
            with pytest.raises(EngineDead):
                await call
        async with client_of(engine.openai_app()) as http:
            answer = await http.post("/v1/completions", json={"model": engine.base_name, "prompt": "x"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "EngineDeadError")

    async def test_bad_bodies_are_400(self, engine, client_of):
        """The fake's app answers nonsense as an OpenAI server does."""
        async with client_of(engine.openai_app()) as http:
            answers = [
                await http.post("/v1/chat/completions", content=b"{"),
                await http.post("/v1/chat/completions", json={"model": engine.base_name}),
                await http.post("/v1/completions", json={"model": engine.base_name}),
            ]
        assert [answer.status_code for answer in answers] == [400, 400, 400]

    async def test_it_brings_the_routes_that_a_server_must_hide(self, engine, client_of):
        """As vLLM does, it serves operators' routes to any client and shows paths in its list of models."""
        async with client_of(engine.openai_app()) as http:
            codes = {path: (await http.post(path)).status_code for path in UNGUARDED}
            models = (await http.get("/v1/models")).json()["data"]
        assert dict.fromkeys(UNGUARDED, 200) == codes
        assert [card["root"] for card in models] == ["/models/base"]

    @pytest.mark.process
    def test_it_needs_neither_torch_nor_vllm(self):
        """A client's tests can use it without an engine installed."""
        code = "import sys, s3lora_serve.engine.fake.fake_engine; print({'torch', 'vllm'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "set()"
