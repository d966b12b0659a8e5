"""What every engine must do for readers of streams, clients that leave, and the count of cost; one test each.

A mixin for subclasses of ``EngineContract``, whose fixtures it uses.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace

import pytest
from asgi_call import AsgiCall
from contract import HELLO, until
from dictated import SAY, endless

from s3lora_serve.engine.port import Sampling
from s3lora_serve.engine.request_facts import collected_facts
from s3lora_serve.errors import EngineError, EngineRefused

LONG = endless(500)
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


async def drain(stream):
    """All pieces of a stream."""
    async with aclosing(stream) as deltas:
        return [delta async for delta in deltas]


class StreamContract:
    """``stream`` of the port, and ``engine/request_facts.py`` through every route."""

    @pytest.fixture
    def ask(self, engine):
        """``ask(path, **body)``: begin a request to the engine's OpenAI app, whose client can leave."""

        def begin(path, **body):
            question = {"messages": HELLO} if path == CHAT else {"prompt": HELLO[0]["content"]}
            return AsgiCall(engine.openai_app(), path, {"model": engine.base_name, **question, **body})

        return begin

    # Streams

    async def test_a_stream_adds_up_to_the_chat(self, engine, adapter, load, facts):
        """Its pieces are the same text; the last one, and no other, has the facts, told to observers once."""
        slot = await load(adapter(seed=1))
        whole = await engine.chat(HELLO, slot, SAY)
        *pieces, last = await drain(engine.stream(HELLO, slot, SAY))
        assert "".join(delta.text for delta in (*pieces, last)) == whole.text
        assert {delta.facts for delta in pieces} == {None}
        assert [last.facts] == facts[1:]
        assert (last.facts.slot, last.facts.outcome, last.facts.finish_reason) == (slot.name, "ok", "stop")

    async def test_a_stop_string_ends_a_stream(self, engine):
        """Nothing of the stop string is handed out, not even its beginning."""
        whole = (await engine.chat(HELLO, None, SAY)).text
        sampling = replace(SAY, stop=(whole[len(whole) // 2 :][:4],))
        deltas = await drain(engine.stream(HELLO, None, sampling))
        cut = await engine.chat(HELLO, None, sampling)
        assert ("".join(delta.text for delta in deltas), deltas[-1].facts.finish_reason) == (cut.text, "stop")

    async def test_a_stream_is_refused_with_its_first_piece(self, engine, adapter, new_slot, facts):
        """Nothing begins until the first piece is asked for; then a slot that is not loaded is an error."""
        slot = new_slot(adapter(seed=1))
        stream = engine.stream(HELLO, slot, LONG)
        with pytest.raises(EngineError, match=f"slot {slot.name} .* is not loaded"):
            await anext(stream)
        await engine.stream(HELLO, None, LONG).aclose()
        assert facts == []

    async def test_leaving_a_stream_ends_its_request(self, engine, adapter, load, facts):
        """Once closed, it is reported as aborted, its slot is free, and others are answered."""
        slot = await load(adapter(seed=1))
        async with aclosing(engine.stream(HELLO, slot, LONG)) as deltas:
            await anext(deltas)
            await anext(deltas)
            assert engine.running(slot) == 1
        assert [(f.slot, f.outcome) for f in facts] == [(slot.name, "aborted")]
        assert 2 <= facts[0].output_tokens < LONG.max_tokens
        await engine.unload(slot)
        assert (await engine.chat(HELLO, None, Sampling(max_tokens=1))).facts.outcome == "ok"

    async def test_cancelling_a_streams_reader_ends_its_request(self, engine, adapter, load, facts):
        """Cancelled while it waits for a piece, it has ended when the reader has."""
        slot = await load(adapter(seed=1))
        reader = asyncio.create_task(drain(engine.stream(HELLO, slot, LONG)))
        await until(lambda: engine.running(slot))
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert ([f.outcome for f in facts], engine.running(slot)) == (["aborted"], 0)
        await engine.unload(slot)

    # Shares

    async def test_requests_share_the_engines_time(self, engine, facts):
        """Alone, a request has its time to itself; together they have no more than what passed."""
        sampling = Sampling(max_tokens=6)
        alone = (await engine.chat(HELLO, None, sampling)).facts
        began = time.perf_counter()
        await asyncio.gather(*(engine.chat(HELLO, None, sampling) for _ in range(3)))
        passed = time.perf_counter() - began
        assert alone.total_seconds / 2 < alone.engine_seconds <= alone.total_seconds
        assert sum(f.engine_seconds for f in facts[1:]) <= passed
        assert sum(f.engine_seconds for f in facts[1:]) < sum(f.total_seconds for f in facts[1:])

    # Hearing

    @pytest.mark.parametrize("n", [1, 2])
    @pytest.mark.parametrize("path", [CHAT, TEXT])
    async def test_an_answers_cost_is_heard_before_its_body_is_sent(self, engine, facts, path, n):
        """One record, the observers' own, however many answers; and it is there in time to be added."""
        with collected_facts() as mine:
            call = _Spied(engine, path, mine, n=n, temperature=1.0)
            await call
        assert (call.status, mine) == (200, facts)
        assert [(f.outcome, f.output_tokens) for f in mine] == [("ok", 4 * n)]
        assert call.known_at[-1] == call.known_at[0] == 1

    @pytest.mark.parametrize("path", [CHAT, TEXT])
    async def test_a_streams_cost_is_heard_before_its_end_is_sent(self, engine, facts, path):
        """One record, not there with the first part, but before the usage and before [DONE]."""
        with collected_facts() as mine:
            call = _Spied(engine, path, mine, stream=True, stream_options={"include_usage": True})
            await call
        assert (call.status, mine, [f.outcome for f in mine]) == (200, facts, ["ok"])
        assert (call.known_at[0], [known for known, part in call.parts if "usage" in part][-1]) == (0, 1)
        assert [known for known, part in call.parts if "[DONE]" in part] == [1]

    async def test_concurrent_requests_do_not_hear_each_other(self, engine, adapter, load, ask):
        """Each collects its own facts, by whichever route; the task that began them all collects all."""
        slots = [await load(adapter(seed=n)) for n in (1, 2)]
        sampling = Sampling(max_tokens=5)

        async def heard_by(call):
            with collected_facts() as mine:
                await call()
            return [f.slot for f in mine]

        with collected_facts() as everything:
            heard = await asyncio.gather(
                heard_by(lambda: ask(CHAT, max_tokens=5, model=slots[0].name, stream=True)),
                heard_by(lambda: ask(TEXT, max_tokens=7, model=slots[1].name)),
                heard_by(lambda: engine.chat(HELLO, slots[0], sampling)),
                heard_by(lambda: drain(engine.stream(HELLO, slots[1], sampling))),
            )
        assert heard == [[slot.name] for slot in (*slots, *slots)]
        assert sorted(f.slot for f in everything) == sorted(name for (name,) in heard)

    async def test_a_client_that_leaves_is_heard_by_its_own_server_only(self, engine, adapter, load, ask):
        """Its request ends as aborted and is heard where it began, wherever it is closed from."""
        slot = await load(adapter(seed=1))
        with collected_facts() as mine:
            call = ask(CHAT, model=slot.name, max_tokens=500, ignore_eos=True, stream=True)
        with collected_facts() as others:
            await until(lambda: engine.running(slot))
            call.leave()
            await call
            await until(lambda: mine)
        assert ([f.outcome for f in mine], others) == (["aborted"], [])

    async def test_what_is_refused_costs_nothing(self, engine, ask):
        """A request that never gets to the engine is not heard of."""
        with collected_facts() as mine:
            call = ask(TEXT, prompt="x", model="nobody")
            await call
            with pytest.raises(EngineRefused):
                await engine.score([1] * engine.max_model_len, None)
        assert (call.status, mine) == (404, [])


class _Spied(AsgiCall):
    """Four tokens; and notes with each part of the answer how many records were known when it was sent."""

    def __init__(self, engine, path, known, **body):
        question = {"messages": HELLO} if path == CHAT else {"prompt": HELLO[0]["content"]}
        self.parts: list[tuple[int, str]] = []
        self._known = known
        request = {"model": engine.base_name, "max_tokens": 4, "ignore_eos": True, **question, **body}
        super().__init__(engine.openai_app(), path, request)

    @property
    def known_at(self):
        """The numbers alone."""
        return [known for known, _ in self.parts]

    async def _send(self, message):
        if message.get("body"):
            self.parts.append((len(self._known), message["body"].decode()))
        await super()._send(message)
