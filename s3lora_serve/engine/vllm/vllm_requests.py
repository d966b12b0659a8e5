"""Our own requests to vLLM's engine: scoring a prompt, answering a chat, whole or piece by piece."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.port import Completion, Delta, RequestFacts
from s3lora_serve.engine.vllm.vllm_errors import translated
from s3lora_serve.errors import ContextTooLong, EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from s3lora_serve.engine.port import Observer, Sampling, Slot
    from s3lora_serve.engine.vllm.vllm_slots import VllmSlots
    from s3lora_serve.engine.vllm.vllm_tap import RequestTap


class VllmRequests:
    """Sends requests through the tap, so that they are observed like those of the OpenAI app.

    ``online_renderer`` is the app's own: chats are rendered exactly as ``/v1/chat/completions`` renders them.
    """

    def __init__(self, client: Any, tap: RequestTap, slots: VllmSlots, online_renderer: Any) -> None:
        self._client = client
        self._tap = tap
        self._slots = slots
        self._online = online_renderer

    async def score(self, token_ids: list[int], slot: Slot | None) -> tuple[float, ...]:
        """Log-probability (nats) of each token after the first. EngineRefused for a bad prompt."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        lora_request = self._lora_request(slot)
        if len(token_ids) < 2:
            return ()
        if len(token_ids) >= (limit := int(self._client.model_config.max_model_len)):
            raise ContextTooLong(
                f"{len(token_ids)} tokens to score and one to generate exceed max_model_len {limit}",
                hint="shorten the prompt or raise engine.max_model_len",
            )
        params = SamplingParams(
            max_tokens=1,  # vLLM generates at least one
            temperature=0.0,
            prompt_logprobs=0,  # those of the prompt's own tokens, no alternatives
            detokenize=False,  # so that it works without a tokenizer
            skip_reading_prefix_cache=True,  # a cached prefix has no logits
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        with translated("scoring"):
            (prompt,) = await self._client.renderer.render_cmpl_async([{"prompt_token_ids": token_ids}])
            output, _ = await self._run(prompt, params, lora_request)
        rows = output.prompt_logprobs  # a {token id: Logprob} per token; None for the first
        return tuple(float(rows[i][token].logprob) for i, token in enumerate(token_ids) if i)

    async def answer_scores(
        self, messages: Sequence[dict[str, str]], answer: str, slot: Slot | None
    ) -> tuple[float, ...]:
        """Log-probability (nats) of each token of ``answer`` after the chat. EngineRefused for a bad one."""
        with translated("scoring an answer"):
            prompt = await self._render(messages)
            tokenizer = self._client.renderer.get_tokenizer()
            answer_ids = list(tokenizer.encode(answer, add_special_tokens=False))
            prompt_ids = list(prompt["prompt_token_ids"])
        scores = await self.score([*prompt_ids, *answer_ids], slot)
        return scores[len(scores) - len(answer_ids) :]

    async def chat(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> Completion:
        """One answer. EngineRefused for messages or sampling that vLLM cannot take."""
        from vllm.sampling_params import RequestOutputKind

        lora_request = self._lora_request(slot)
        with translated("answering"):
            params = _params(sampling, RequestOutputKind.FINAL_ONLY)
            output, facts = await self._run(await self._render(messages), params, lora_request)
        return _completion(output, facts)

    async def chat_tokens(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """The tokens of the chat, however many. EngineRefused for messages that vLLM cannot render."""
        with translated("rendering a chat"):
            prompt = await self._render(messages, whole=True)
            return tuple(prompt["prompt_token_ids"])

    async def continue_tokens(
        self, token_ids: list[int], slot: Slot | None, sampling: Sampling, salt: str, priority: int
    ) -> Completion:
        """What follows the tokens. EngineRefused for tokens or sampling that vLLM cannot take."""
        from vllm.sampling_params import RequestOutputKind

        lora_request = self._lora_request(slot)
        given = {"prompt_token_ids": token_ids, **({"cache_salt": salt} if salt else {})}
        with translated("continuing"):
            params = _params(sampling, RequestOutputKind.FINAL_ONLY)
            (prompt,) = await self._client.renderer.render_cmpl_async([given])
            output, facts = await self._run(prompt, params, lora_request, priority=priority)
        return _completion(output, facts)

    async def stream(
        self, messages: Sequence[dict[str, str]], slot: Slot | None, sampling: Sampling
    ) -> AsyncGenerator[Delta, None]:
        """One answer piece by piece; closing the stream aborts the request. Raises as ``chat`` does."""
        from vllm.sampling_params import RequestOutputKind

        lora_request = self._lora_request(slot)
        facts: list[RequestFacts] = []
        with translated("answering"):
            params = _params(sampling, RequestOutputKind.DELTA)
            async with aclosing(
                self._begin(await self._render(messages), params, lora_request, facts.append)
            ) as outputs:
                async for output in outputs:
                    if output.finished:
                        yield Delta(output.outputs[0].text, _success(facts))
                    elif text := output.outputs[0].text:
                        yield Delta(text)
            _success(facts)  # none without a finished output

    async def _run(
        self, prompt: Any, params: Any, lora_request: Any | None, **options: Any
    ) -> tuple[Any, RequestFacts]:
        """Run one request to its end. Raises EngineError if the engine gave it up."""
        facts: list[RequestFacts] = []
        final = None
        async with aclosing(self._begin(prompt, params, lora_request, facts.append, **options)) as outputs:
            async for output in outputs:
                final = output
        return final, _success(facts)

    def _begin(
        self, prompt: Any, params: Any, lora_request: Any | None, also: Observer, **options: Any
    ) -> AsyncGenerator[Any, None]:
        request_id = f"s3lora-{uuid.uuid4().hex}"
        return self._tap.generate(prompt, params, request_id, lora_request=lora_request, also=also, **options)

    async def _render(self, messages: Sequence[dict[str, str]], *, whole: bool = False) -> Any:
        """The chat as vLLM takes it; ``whole``: also one that is longer than the context."""
        from vllm.renderers import ChatParams

        chat_params = ChatParams(
            chat_template=self._online.chat_template,
            chat_template_content_format=self._online.chat_template_content_format,
            chat_template_kwargs={"add_generation_prompt": True},
        ).with_defaults(self._online.default_chat_template_kwargs)
        renderer = self._client.renderer
        limits = replace(renderer.default_chat_tok_params, max_total_tokens=None) if whole else None
        _, (prompt,) = await renderer.render_chat_async([list(messages)], chat_params, limits)
        return prompt

    def _lora_request(self, slot: Slot | None) -> Any | None:
        return None if slot is None else self._slots.request_of(slot)


def _params(sampling: Sampling, output_kind: Any) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    grammar = sampling.grammar
    return SamplingParams(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        seed=sampling.seed,
        stop=list(sampling.stop),
        structured_outputs=None if grammar is None else StructuredOutputsParams(grammar=grammar),
        output_kind=output_kind,
    )


def _completion(output: Any, facts: RequestFacts) -> Completion:
    (answer,) = output.outputs
    return Completion(answer.text, facts, tuple(answer.token_ids))


def _success(facts: Sequence[RequestFacts]) -> RequestFacts:
    """The facts of a request that ended well. Raises EngineError if the engine gave it up."""
    if not facts or facts[0].outcome != "ok" or facts[0].finish_reason is None:
        reason = facts[0].finish_reason if facts else None
        raise EngineError(f"the engine gave the request up: {reason or 'no output'}", hint="try again")
    return facts[0]
