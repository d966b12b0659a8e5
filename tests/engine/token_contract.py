"""What every engine must do with token ids: name a chat's, and continue any.

Mixins for subclasses of ``EngineContract``, whose fixtures they use.
"""

from __future__ import annotations

import asyncio

import pytest
from contract import HELLO, TOKENS, until
from dictated import SAY, endless

from s3lora_serve.engine.port import Sampling
from s3lora_serve.engine.request_facts import HeldFacts, collected_facts, for_the_guard, held_facts
from s3lora_serve.errors import EngineError, EngineRefused

ONE = Sampling(max_tokens=1)


class TokenContract:
    """``chat_tokens`` and ``continue_tokens`` of the port, and whom their requests are counted for."""

    async def test_a_chat_has_its_tokens(self, engine, facts):
        """The same each time, others for another chat, all known to the model; nothing is asked of it."""
        one, again = [await engine.chat_tokens(HELLO) for _ in range(2)]
        other = await engine.chat_tokens([{"role": "user", "content": "What is in the box?"}])
        assert one == again != other
        assert all(0 <= token < engine.vocab_size for token in one)
        assert facts == []

    async def test_a_chats_tokens_are_never_cut(self, engine):
        """A chat that is longer than the context has all of them: more text, more tokens."""
        lengths = [
            len(await engine.chat_tokens([{"role": "user", "content": "dusk " * n * engine.max_model_len}]))
            for n in (1, 2)
        ]
        assert lengths[0] >= engine.max_model_len
        assert lengths[1] - lengths[0] >= engine.max_model_len

    async def test_continuing_a_chat_answers_it(self, engine, facts):
        """What follows a chat's tokens is what ``chat`` says, reported once as any other request."""
        answer = await engine.chat(HELLO, None, SAY)
        continued = await engine.continue_tokens(await engine.chat_tokens(HELLO), None, SAY)
        assert (continued.text, continued.token_ids) == (answer.text, answer.token_ids)
        assert [answer.facts, continued.facts] == facts
        assert (continued.facts.slot, continued.facts.outcome) == (None, "ok")

    async def test_an_answers_tokens_can_be_continued(self, engine):
        """They are of the model's vocabulary, and following the prompt they are a prompt."""
        asked = await engine.chat_tokens(HELLO)
        first = await engine.continue_tokens(asked, None, endless(4))
        assert first.token_ids
        assert all(0 <= token < engine.vocab_size for token in first.token_ids)
        second = await engine.continue_tokens((*asked, *first.token_ids), None, endless(4))
        assert second.facts.output_tokens == 4

    async def test_tokens_are_continued_under_a_slot(self, engine, adapter, load, facts):
        """The request runs on the slot that was named, and on no other."""
        slot = await load(adapter(seed=1))
        await engine.continue_tokens(await engine.chat_tokens(HELLO), slot, ONE, salt="guard:one")
        assert [f.slot for f in facts] == [slot.name]

    async def test_impossible_tokens_are_refused(self, engine, adapter, new_slot, facts):
        """None, too many, unknown ones, and a slot that is not loaded: nothing is generated."""
        for impossible in ((), [1] * engine.max_model_len, (1, engine.vocab_size)):
            with pytest.raises(EngineRefused):
                await engine.continue_tokens(impossible, None, ONE)
        with pytest.raises(EngineError, match="is not loaded"):
            await engine.continue_tokens(TOKENS[:4], new_slot(adapter(seed=1)), ONE)
        assert {(f.outcome, f.output_tokens) for f in facts} <= {("error", 0)}

    async def test_leaving_a_continuation_ends_it(self, engine, adapter, load, facts):
        """Cancelled, it has ended in the engine when its caller has."""
        slot = await load(adapter(seed=1))
        asked = await engine.chat_tokens(HELLO)
        task = asyncio.create_task(engine.continue_tokens(asked, slot, endless(500)))
        await until(lambda: engine.running(slot))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ([f.outcome for f in facts], engine.running(slot)) == (["aborted"], 0)

    async def test_what_the_guard_asks_is_no_part_of_an_answer(self, engine, facts):
        """Observers can tell it from answers, and who counts an answer's cost does not hear of it."""
        asked = await engine.chat_tokens(HELLO)

        async def guard():
            with for_the_guard(), collected_facts() as own:
                await asyncio.create_task(engine.continue_tokens(asked, None, ONE))
            return own

        with collected_facts() as heard:
            own = await guard()
            await engine.continue_tokens(asked, None, ONE)
        assert [f.purpose for f in facts] == ["guard", "answer"]
        assert (own, heard) == (facts[:1], facts[1:])

    async def test_what_waits_for_a_verdict_is_marked_and_held(self, engine, facts):
        """Observers can tell it from other answers; it is handed on at the verdict, or when it ends later."""
        asked, held, handed = await engine.chat_tokens(HELLO), HeldFacts(), []
        with collected_facts() as heard, held_facts(held):
            await asyncio.create_task(engine.continue_tokens(asked, None, ONE))
            with for_the_guard():
                await engine.continue_tokens(asked, None, ONE)
            late = engine.stream(HELLO, None, SAY)
            await anext(late)
        assert ([f.purpose for f in facts], heard) == (["judged", "guard"], facts[:1])
        assert handed == []
        held.release(handed.append)
        assert handed == heard
        await late.aclose()
        assert ([f.purpose for f in facts], handed) == (["judged", "guard", "judged"], [facts[0], facts[2]])


class RealTokens:
    """What only an engine with a tokenizer and a prefix cache shows."""

    async def test_every_token_is_counted(self, engine):
        """A prompt of tokens is exactly those, and what was generated has as many as were counted."""
        asked = await engine.chat_tokens(HELLO)
        answer = await engine.continue_tokens(asked, None, endless(5))
        counted = (answer.facts.prompt_tokens, answer.facts.output_tokens)
        assert counted == (len(asked), len(answer.token_ids)) == (len(asked), 5)

    async def test_salts_keep_prefix_caches_apart(self, engine):
        """The same tokens are found again under their own salt, and not under another or none."""
        asked = [7, *TOKENS * 8]
        cached = [
            (await engine.continue_tokens(asked, None, ONE, salt=salt)).facts.cached_tokens
            for salt in ("guard:one", "guard:two", "", "guard:one")
        ]
        assert cached[:3] == [0, 0, 0]
        assert cached[3] > len(asked) // 2

    async def test_a_base_without_a_chat_template_is_refused(self, engine, monkeypatch):
        """There is no form in which to ask it: an error of ours, and the engine serves on."""
        tokenizer = engine._client.renderer.get_tokenizer()
        monkeypatch.setattr(tokenizer, "chat_template", None)
        with pytest.raises(EngineRefused, match="chat template"):
            await engine.chat_tokens(HELLO)
        monkeypatch.undo()
        assert await engine.chat_tokens(HELLO)
