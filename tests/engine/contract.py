"""What every engine must do, whatever it runs on: the promises of ``engine/port.py``, one test each.

No test hangs on what a model happens to say (``dictated.py``): whose adapter answered is read from
log-probabilities, which are far apart.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from dictated import SAY, STRONG, endless

from planners import PlannerInput, ToolSpec
from planners.grammar import plan_grammar
from planners.prompts import render_messages
from planners.text.rewoo import parse
from s3lora_serve.engine.port import Sampling, Slot
from s3lora_serve.errors import EngineRefused

HELLO = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]
TOKENS = tuple((37 * i * i + 11 * i) % 40_000 for i in range(1, 25))


def distance(one, other):
    """Largest difference of two score tuples, in nats."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


async def until(true):
    """Return once ``true()`` holds. Raises TimeoutError after 60 s."""
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.001)


class EngineContract:
    """Subclasses give the fixtures ``engine`` and ``noise``, by which equal scores may differ (nats)."""

    MAX_LORAS = 4

    @pytest.fixture
    async def load(self, engine, new_slot):
        """``await load(folder)``: a loaded slot; all are unloaded afterwards."""
        held: list[Slot] = []

        async def make(folder) -> Slot:
            slot = new_slot(folder)
            await engine.load(slot)
            held.append(slot)
            return slot

        yield make
        for slot in held:
            await engine.unload(slot)

    @pytest.fixture
    def facts(self, engine):
        """The facts of every request that ends from now on."""
        seen = []
        engine.observe(seen.append)
        return seen

    @pytest.fixture
    async def http(self, engine, client_of):
        """A client of the engine's OpenAI app."""
        async with client_of(engine.openai_app()) as client:
            yield client

    async def test_it_says_how_much_it_works_on_at_once(self, engine):
        """At least one request, so that a share of it can be reserved."""
        assert engine.max_num_seqs >= 1

    # Scores

    async def test_scores_are_log_probabilities_of_all_tokens_but_the_first(self, engine):
        """One non-positive number per token after the first; none for a single token."""
        scores = await engine.score(TOKENS, None)
        assert len(TOKENS) - 1 == len(scores)
        assert max(scores) <= 0
        assert await engine.score(TOKENS[:1], None) == ()

    async def test_adapters_change_scores_each_in_its_own_way(self, engine, adapter, load, noise):
        """Two adapters differ from the base and from each other; each scores the same every time."""
        one, two = [await load(adapter(seed=n, strength=STRONG)) for n in (1, 2)]
        base, first, second = [await engine.score(TOKENS, slot) for slot in (None, one, two)]
        apart = min(distance(base, first), distance(base, second), distance(first, second))
        assert apart > max(0.05, 4 * noise)
        again = [await engine.score(TOKENS, slot) for slot in (None, one, two)]
        assert max(map(distance, (base, first, second), again)) <= noise

    async def test_an_adapter_of_zeros_scores_as_the_base(self, engine, adapter, load, noise):
        """lora_B of zeros is no change at all."""
        slot = await load(adapter(seed=1, strength=0.0))
        assert distance(await engine.score(TOKENS, None), await engine.score(TOKENS, slot)) <= noise

    async def test_base_requests_in_a_mixed_batch_get_the_base_model(self, engine, adapter, load, noise):
        """A request without a slot scores as it does alone, whatever adapters share its batch.

        Every slot is taken: a wrong index for "no adapter" would hit the last one (see test_cpu_lora_fix.py).
        """
        alone = await engine.score(TOKENS, None)
        free = range(self.MAX_LORAS - len(await engine.loaded()))
        slots = [await load(adapter(seed=n, strength=STRONG)) for n in free]
        effect = min([distance(alone, await engine.score(TOKENS, slot)) for slot in slots])
        together = await asyncio.gather(*(engine.score(TOKENS, slot) for slot in (None, *slots) * 3))
        worst = max(distance(alone, scores) for scores in together[:: len(slots) + 1])
        assert worst <= noise < effect / 4

    async def test_impossible_prompts_are_refused(self, engine):
        """Too long a prompt and unknown token ids are errors that name number and limit."""
        with pytest.raises(EngineRefused, match=f"exceed max_model_len {engine.max_model_len}"):
            await engine.score([1] * engine.max_model_len, None)
        with pytest.raises(EngineRefused, match=f"{engine.vocab_size} is out of vocabulary"):
            await engine.score([1, engine.vocab_size], None)

    # Answers

    async def test_max_tokens_ends_an_answer(self, engine):
        """The answer has exactly so many tokens and says that it was cut."""
        facts = (await engine.chat(HELLO, None, endless(3))).facts
        assert (facts.outcome, facts.output_tokens, facts.finish_reason) == ("ok", 3, "length")

    async def test_stop_strings_end_an_answer(self, engine):
        """The text ends before the stop string and says that it was stopped."""
        whole = (await engine.chat(HELLO, None, SAY)).text
        stop = whole[len(whole) // 2 :][:4]
        cut = await engine.chat(HELLO, None, replace(SAY, stop=(stop,)))
        assert (whole.split(stop)[0], "stop") == (cut.text, cut.facts.finish_reason)

    async def test_a_grammar_makes_every_answer_a_plan(self, engine):
        """Under a plan grammar the answer parses and has no problems."""
        tools = (ToolSpec(name="Search", description="look up"), ToolSpec(name="LLM", description="think"))
        grammar = plan_grammar(tools, 2, max_text=12)
        messages = render_messages(PlannerInput(task="Who directed Tenet?", tools=tools, max_steps=2))
        longest = 2 * (2 * 4 * 12 + 28)  # four bytes a character, so that no plan is cut
        completion = await engine.chat(messages, None, Sampling(max_tokens=longest, grammar=grammar))
        assert list(parse(completion.text).problems(tools)) == []

    # Facts

    async def test_each_request_is_reported_once(self, engine, adapter, load, facts):
        """Chat and score tell the observers their slot, tokens and times, and chat returns the same facts."""
        slot = await load(adapter(seed=1))
        completion = await engine.chat(HELLO, slot, endless(4))
        await engine.score(TOKENS, None)
        assert [completion.facts] == facts[:1]
        assert [(slot.name, "ok", 4), (None, "ok", 1)] == [
            (f.slot, f.outcome, f.output_tokens) for f in facts
        ]
        assert len(TOKENS) == facts[1].prompt_tokens
        for f in facts:
            assert 0 <= f.queue_seconds <= f.first_token_seconds <= f.total_seconds
            assert 0 <= f.decode_seconds <= f.total_seconds - f.first_token_seconds
            assert 0 < f.engine_seconds <= f.total_seconds
            assert 0 <= f.cached_tokens <= f.prompt_tokens

    async def test_a_cancelled_request_is_reported_as_aborted(self, engine, adapter, load, facts):
        """Cancelling the caller ends the request; its facts say so, and the engine serves on."""
        slot = await load(adapter(seed=1))
        task = asyncio.create_task(engine.chat(HELLO, slot, endless(500)))
        await until(lambda: engine.running(slot))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [f.outcome for f in facts] == ["aborted"]
        assert (await engine.chat(HELLO, None, Sampling(max_tokens=1))).facts.outcome == "ok"

    async def test_an_observer_that_fails_fails_no_request(self, engine, facts):
        """The request succeeds and the other observers are told."""
        failing = [True]

        def observer(_):
            if failing:
                raise RuntimeError("observer's defect")

        engine.observe(observer)
        try:
            assert (await engine.chat(HELLO, None, Sampling(max_tokens=1))).facts.outcome == "ok"
        finally:
            failing.clear()
        assert len(facts) == 1

    # The OpenAI app

    async def test_chat_and_text_completions_over_http(self, engine, adapter, load, http, facts):
        """Both endpoints answer with usage, and n answers are one request whose tokens are summed."""
        slot = await load(adapter(seed=1))
        body = {"model": slot.name, "max_tokens": 3, "ignore_eos": True, "n": 2, "temperature": 1.0}
        chat = (await http.post("/v1/chat/completions", json={**body, "messages": HELLO})).json()
        text = (await http.post("/v1/completions", json={**body, "prompt": "Once upon a time"})).json()
        assert [(len(r["choices"]), r["usage"]["completion_tokens"]) for r in (chat, text)] == [
            (2, 6),
            (2, 6),
        ]
        assert [f.output_tokens for f in facts] == [6, 6]
        assert [r["usage"]["prompt_tokens"] for r in (chat, text)] == [f.prompt_tokens for f in facts]
        assert [sum(c["finish_reason"] == "length" for c in r["choices"]) for r in (chat, text)] == [2, 2]

    async def test_streams_add_up_and_end_with_done(self, engine, http, facts):
        """The pieces are the unstreamed text; usage comes last when asked for; then [DONE]."""
        dictated = {"max_tokens": SAY.max_tokens, "structured_outputs": {"grammar": SAY.grammar}}
        body = {"model": engine.base_name, "messages": HELLO, **dictated}
        whole = (await http.post("/v1/chat/completions", json=body)).json()
        extra = {"stream": True, "stream_options": {"include_usage": True}}
        answer = await http.post("/v1/chat/completions", json={**body, **extra})
        assert answer.headers["content-type"].startswith("text/event-stream")
        *events, done = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
        assert done == "[DONE]"
        *chunks, last = [json.loads(event) for event in events]
        pieces = [c["choices"][0]["delta"].get("content") or "" for c in chunks]
        assert whole["choices"][0]["message"]["content"] == "".join(pieces)
        assert last["choices"] == []
        told = [answered["usage"]["completion_tokens"] for answered in (whole, last)]
        assert (told, min(told) > 1) == ([f.output_tokens for f in facts], True)

    async def test_an_unknown_model_is_404(self, http):
        """The body names the model that was asked for."""
        answer = await http.post("/v1/completions", json={"model": "nobody", "prompt": "x"})
        assert answer.status_code == 404
        assert "`nobody` does not exist" in answer.json()["error"]["message"]

    async def test_it_says_what_it_is(self, engine):
        """Kind, version, sizes, room and health of a running engine."""
        assert len(engine.version.split()) == 2
        assert engine.version.split()[0] == engine.kind
        assert engine.vocab_size > max(TOKENS)
        assert engine.max_model_len > len(TOKENS)
        assert engine.capacity == self.MAX_LORAS
        assert await engine.healthy()
