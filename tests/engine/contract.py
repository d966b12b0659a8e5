"""What every engine must do, whatever it runs on: the promises of ``engine/port.py``, one test each.

No test hangs on what a model happens to say (``dictated.py``): whose adapter answered is read from
log-probabilities, which are far apart.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from bad_folders import bad_folder
from dictated import SAY, STRONG, endless

from planners import PlannerInput, ToolSpec
from planners.grammar import plan_grammar
from planners.prompts import render_messages
from planners.rewoo import parse
from s3lora_serve.engine.port import Sampling, Slot
from s3lora_serve.errors import EngineError, EngineRefused, SlotLoadError

HELLO = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]
TOKENS = tuple((37 * i * i + 11 * i) % 40_000 for i in range(1, 25))


def distance(one, other):
    """Largest difference of two score tuples, in nats."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


async def forever(look):
    """Call ``look`` at every turn of the event loop."""
    while True:
        look()
        await asyncio.sleep(0)


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

    # Slots

    async def test_a_loaded_slot_is_listed_and_an_unloaded_one_is_not(self, engine, adapter, load):
        """``loaded`` follows load and unload; a second load or unload of the same slot changes nothing."""
        before = await engine.loaded()
        slot = await load(adapter(seed=1))
        await engine.load(slot)
        assert before | {slot.id} == await engine.loaded()
        await engine.unload(slot)
        await engine.unload(slot)
        assert before == await engine.loaded()

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

    # Names

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
