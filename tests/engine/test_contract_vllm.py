"""The vLLM engine keeps the contract; what else only a real one can show."""

from __future__ import annotations

import re
from contextlib import aclosing

import pytest
from answer_contract import AnswerContract, RealAnswers
from contract import HELLO, TOKENS, EngineContract, distance
from dictated import STRONG, endless
from slot_contract import SlotContract
from stream_contract import StreamContract
from token_contract import RealTokens, TokenContract

from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineRefused, NoEffectError, SlotLoadError
from s3lora_serve.serving.checks.effect import prove_effect


@pytest.mark.engine
class TestVllmEngine(
    EngineContract, SlotContract, StreamContract, AnswerContract, RealAnswers, TokenContract, RealTokens
):
    """The whole contract on vLLM's CPU build, then what the port leaves to the backend."""

    @pytest.fixture
    def engine(self, vllm_engine):
        return vllm_engine

    @pytest.fixture
    def noise(self):
        return 0.5  # bfloat16 results depend on the batch's shape: a quarter of a nat was measured

    async def test_a_misshapen_adapter_is_refused_and_hurts_nobody(
        self, engine, adapter, load, new_slot, noise
    ):
        """Too wide tensors fail halfway through vLLM's load; the id is taken out and the others serve on."""
        good = await load(adapter(seed=1, strength=STRONG))
        expected, listed = await engine.score(TOKENS, good), await engine.loaded()
        slot = new_slot(adapter(seed=1, hidden=960))
        with pytest.raises(SlotLoadError, match="the adapter's shapes are those of another base model"):
            await engine.load(slot)
        assert listed == await engine.loaded()
        with pytest.raises(SlotLoadError, match="failed before"):
            await engine.load(slot)
        again = await load(adapter(seed=2, strength=STRONG))  # into the place that the failed one had
        assert distance(expected, await engine.score(TOKENS, good)) <= noise
        assert distance(expected, await engine.score(TOKENS, again)) > 4 * noise

    async def test_bad_sampling_is_refused(self, engine):
        """vLLM's own refusals leave as ours, with its text."""
        with pytest.raises(EngineRefused, match="answering: temperature must be non-negative, got -1"):
            await engine.chat(HELLO, None, Sampling(max_tokens=1, temperature=-1.0))
        with pytest.raises(EngineRefused, match="answering: Invalid grammar"):
            await engine.chat(HELLO, None, Sampling(max_tokens=1, grammar='root ::= "unterminated'))

    async def test_chat_renders_as_the_openai_endpoint_does(self, engine, http, monkeypatch):
        """``chat`` and /v1/chat/completions give one prompt to the model, token for token."""
        prompts, generate = [], engine._tap._generate

        def spy(prompt, *given, **options):
            prompts.append(list(prompt["prompt_token_ids"]))
            return generate(prompt, *given, **options)

        monkeypatch.setattr(engine._tap, "_generate", spy)
        await engine.chat(HELLO, None, Sampling(max_tokens=1))
        await http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1})
        ours, theirs = prompts
        assert ours == theirs

    async def test_a_request_by_name_runs_under_that_slot(self, engine, adapter, load, http, noise):
        """Its log-probabilities are those that ``score`` gives for the slot, and far from the others'."""
        slots = [None, *[await load(adapter(seed=n, strength=STRONG)) for n in (1, 2)]]
        scores = [await engine.score(TOKENS, slot) for slot in slots]
        for slot, own in zip(slots, scores, strict=True):
            body = {"model": slot.name if slot else engine.base_name, "prompt": TOKENS, "prompt_logprobs": 0}
            (choice,) = (await http.post("/v1/completions", json={**body, "max_tokens": 1})).json()["choices"]
            rows = choice["prompt_logprobs"][1:]
            heard = [row[str(token)]["logprob"] for row, token in zip(rows, TOKENS[1:], strict=True)]
            far = [distance(heard, other) for other in scores if other is not own]
            assert (distance(heard, own) <= noise, min(far) > 4 * noise) == (True, True)

    async def test_a_repeated_prompt_comes_from_the_prefix_cache(self, engine):
        """``cached_tokens`` is vLLM's own count: whole blocks of a prompt seen before."""
        messages = [{"role": "user", "content": "lighthouse " * 300}]
        facts = [(await engine.chat(messages, None, Sampling(max_tokens=1))).facts for _ in range(2)]
        assert facts[0].cached_tokens == 0
        assert facts[1].prompt_tokens // 2 < facts[1].cached_tokens < facts[1].prompt_tokens

    async def test_a_stream_that_was_left_costs_nothing_more(self, engine, http):
        """By the engine's own count no token is generated for it once it was closed."""

        async def generated():
            text = (await http.get("/metrics")).text
            return sum(map(float, re.findall(r"^vllm:generation_tokens_total{.*} (\S+)$", text, re.M)))

        async with aclosing(engine.stream(HELLO, None, endless(500))) as deltas:
            await anext(deltas)
        await engine.chat(HELLO, None, Sampling(max_tokens=1))  # a step later
        before = await generated()
        await engine.chat(HELLO, None, endless(3))
        assert await generated() - before == 3

    async def test_adapters_cannot_be_brought_in_by_request(self, engine, http, adapter):
        """vLLM's own routes that load adapters are off, and a path as model name is unknown."""
        body = {"lora_name": "x", "lora_path": str(adapter(seed=1))}
        codes = [(await http.post(p, json=body)).status_code for p in ("/v1/load_lora_adapter", "/adapters")]
        assert codes == [404, 404]
        path = {"model": str(adapter(seed=1)), "prompt": "x"}
        assert (await http.post("/v1/completions", json=path)).status_code == 404

    async def test_the_probe_passes_an_adapter_that_acts(self, engine, adapter, load):
        """A usual adapter stands far above the noise; one module that barely acts still does."""
        effect = await prove_effect(engine, await load(adapter(seed=1)))
        assert effect.max_abs_delta > 0.5 > effect.noise
        weak = await load(adapter(seed=2, layers=(29,), projections=("v_proj",), strength=0.005))
        assert (await prove_effect(engine, weak)).max_abs_delta > 0.001

    @pytest.mark.parametrize(
        "idle", [{"strength": 0.0}, {"layers": (98, 99)}], ids=["zero B", "no such layers"]
    )
    async def test_the_probe_catches_an_adapter_that_does_nothing(self, engine, adapter, load, idle):
        """vLLM loads both without a word; the probe does not let them serve."""
        slot = await load(adapter(seed=3, **idle))
        with pytest.raises(NoEffectError, match=f"slot {slot.name} changes .* by 0 nats, not over 3e-06"):
            await prove_effect(engine, slot)
