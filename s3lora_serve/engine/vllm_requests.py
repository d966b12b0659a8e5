"""Our own requests to vLLM's engine: scoring a prompt, answering a chat."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from s3lora_serve.engine.port import Completion, RequestFacts
from s3lora_serve.engine.vllm_errors import translated
from s3lora_serve.errors import EngineError, EngineRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.engine.port import Sampling
    from s3lora_serve.engine.vllm_tap import RequestTap


class VllmRequests:
    """Sends requests through the tap, so that they are observed like those of the OpenAI app.

    ``online_renderer`` is the app's own: chats are rendered exactly as ``/v1/chat/completions`` renders them.
    """

    def __init__(self, client: Any, tap: RequestTap, online_renderer: Any) -> None:
        self._client = client
        self._tap = tap
        self._online = online_renderer

    async def score(self, token_ids: list[int], lora_request: Any | None) -> tuple[float, ...]:
        """Log-probability (nats) of each token after the first. EngineRefused for a bad prompt."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        if len(token_ids) < 2:
            return ()
        if len(token_ids) >= (limit := int(self._client.model_config.max_model_len)):
            raise EngineRefused(
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

    async def chat(
        self, messages: Sequence[dict[str, str]], lora_request: Any | None, sampling: Sampling
    ) -> Completion:
        """One answer. EngineRefused for messages or sampling that vLLM cannot take."""
        from vllm import SamplingParams
        from vllm.renderers import ChatParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        grammar = sampling.grammar
        with translated("answering"):
            params = SamplingParams(
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                seed=sampling.seed,
                stop=list(sampling.stop),
                structured_outputs=None if grammar is None else StructuredOutputsParams(grammar=grammar),
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            chat_params = ChatParams(
                chat_template=self._online.chat_template,
                chat_template_content_format=self._online.chat_template_content_format,
                chat_template_kwargs={"add_generation_prompt": True},
            ).with_defaults(self._online.default_chat_template_kwargs)
            _, (prompt,) = await self._client.renderer.render_chat_async([list(messages)], chat_params)
            output, facts = await self._run(prompt, params, lora_request)
        return Completion(text=output.outputs[0].text, facts=facts)

    async def _run(self, prompt: Any, params: Any, lora_request: Any | None) -> tuple[Any, RequestFacts]:
        """Run one request to its end. Raises EngineError if the engine gave it up."""
        facts: list[RequestFacts] = []
        request_id = f"s3lora-{uuid.uuid4().hex}"
        outputs = self._tap.generate(prompt, params, request_id, lora_request=lora_request, also=facts.append)
        final = None
        async for output in outputs:
            final = output
        if final is None or facts[0].outcome != "ok":
            raise EngineError(
                f"the engine gave the request up: {facts[0].finish_reason or 'no output'}", hint="try again"
            )
        return final, facts[0]
