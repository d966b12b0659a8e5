"""Fields of chats and completions under a guard: what is judged, what says nothing, and what slips past."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.guarded.hidden_text import hidden_text
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

_PROMPT = "leave it out: it changes the prompt, and the guard would judge another one than the planner reads"
_TOKENS = "leave it out: the guard reads text, and no tokens"
_MEDIA = "leave it out: the guard reads text alone"
_CUTS = (
    "leave it out: the guard judges the whole prompt, and the planner must read the same; send a shorter one"
)
MOST_PROMPTS = 64  # of one completion
_ENDS = (
    "end with a message of the user or of a tool: the guard judges what is asked, not how an answer begins"
)

# What reaches the prompt or the answer, and stands in the guard's question: ``chat_question.py``.
JUDGED = frozenset(
    (
        "messages", "prompt", "tools", "functions", "documents", "structured_outputs", "response_format",
        "text",
    )
)  # fmt: skip

# What brings neither text nor tokens of the client into prompt or answer, or only takes some away.
HARMLESS = frozenset(
    (
        "model", "stream", "stream_options", "stream_interval", "temperature", "top_p", "top_k", "min_p",
        "seed", "frequency_penalty", "presence_penalty", "repetition_penalty", "length_penalty",
        "watermarking", "logprobs", "top_logprobs", "logprob_token_ids", "max_tokens",
        "max_completion_tokens", "min_tokens", "n", "use_beam_search", "user", "priority", "cache_salt",
        "request_id", "session_id", "return_token_ids", "return_tokens_as_token_ids", "return_token_offsets",
        "return_prompt_text", "spaces_between_special_tokens", "skip_special_tokens", "stop",
        "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "bad_words", "repetition_detection",
        "tool_choice", "function_call", "parallel_tool_calls", "include_reasoning", "reasoning_effort",
        "thinking_token_budget", "mm_payload", "return_mm_kwargs", "routed_experts_prompt_start",
        "max_output_tokens", "max_tool_calls", "include", "reasoning",
    )
)  # fmt: skip

# Of these and of what slips past: fields that only responses have.
RESPONSES_ONLY = frozenset(
    ("max_output_tokens", "max_tool_calls", "include", "reasoning", "text", "truncation")
)

# OpenAI's, which vLLM does not know and leaves aside: stock clients send them.
UNKNOWN_TO_THE_ENGINE = frozenset(
    (
        "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "verbosity", "modalities", "audio", "prediction",
        "web_search_options", "best_of", "moderation",
    )
)  # fmt: skip

# What would slip past the guard: values that ask for nothing, and what to do instead. Every field of vLLM's
# is here or above, which a test on the engine holds; a field that is in none of them is refused as well.
SLIPS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "continue_final_message": ((False,), _ENDS),
    "add_generation_prompt": ((True,), _ENDS),
    "chat_template": ((), _PROMPT),
    "chat_template_kwargs": (({},), _PROMPT),
    "echo": ((False,), _PROMPT),
    "suffix": ((), _PROMPT),
    "prompt_embeds": (([],), _TOKENS),
    "prompt_logprobs": ((), _TOKENS),
    "logit_bias": (({},), _TOKENS),
    "allowed_token_ids": ((), _TOKENS),
    "logits_processors": (([],), _TOKENS),
    "vllm_xargs": (({},), _PROMPT),
    "kv_transfer_params": (({},), _PROMPT),
    "ec_transfer_params": (({},), _PROMPT),
    "mm_processor_kwargs": (({},), _MEDIA),
    "media_io_kwargs": (({},), _MEDIA),
    "truncate_prompt_tokens": ((), _CUTS),
    "truncation_side": ((), _CUTS),
    "truncation": (("disabled",), _CUTS),
}
KNOWN = frozenset((*JUDGED, *SLIPS, "add_special_tokens"))
_OWN_TOKENS = {True: False, False: True}  # whether it is a chat → ``add_special_tokens`` as it is without it


def slip(fields: Mapping[str, Any], *, chat: bool) -> tuple[str, str] | None:
    """The first field that would slip past a guard, and what to do instead; None without one."""
    for name, value in fields.items():
        if value is None:
            continue
        if name == "add_special_tokens":
            if value is not _OWN_TOKENS[chat]:
                return name, _PROMPT
        elif name in SLIPS:
            neutral, hint = SLIPS[name]
            if not any(type(value) is type(other) and value == other for other in neutral):
                return name, hint
        elif name not in JUDGED and name not in HARMLESS and name not in UNKNOWN_TO_THE_ENGINE:
            return name[:80], "leave it out: this version does not know what it does to the prompt"
    return (_of_messages(fields) if chat else _of_prompt(fields)) or hidden_text(fields)


def refuse(planner: str, name: str, hint: str) -> RequestRefused:
    """What the client of a request with such a field is told."""
    return RequestRefused(
        f"field {name!r} is not allowed here: the guard of planner {planner!r} could not judge it",
        reason="field_not_allowed",
        status=403,
        param=name,
        hint=hint,
    )


def _of_prompt(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    prompt = fields.get("prompt")
    texts = prompt if isinstance(prompt, list) else [prompt]
    if len(texts) > MOST_PROMPTS:
        return "prompt", f"send at most {MOST_PROMPTS} at once: each is judged"
    return None if texts and all(isinstance(text, str) for text in texts) else ("prompt", _TOKENS)


def _of_messages(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    messages = fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return ("messages", _ENDS) if isinstance(last, dict) and last.get("role") == "assistant" else None
