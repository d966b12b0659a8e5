"""Planning through chat completions: the fields that a plan leaves to the client, and those that it sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.server.validation import RequestRefused
from s3lora_serve.serving.plan_prompt import EnginePrompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planners import PlannerInput
    from s3lora_serve.engine.port import Engine

_TOOLS = "name the plan's tools in s3lora.plan.tools; the answer has its steps in s3lora.plan"
_SHAPE = "leave it out: s3lora.plan sets the constraint; without it, this field has its usual meaning"
_ENDS = "leave it out: a plan ends when it is whole, at the latest after s3lora.plan.max_steps"
_TOKENS = "leave it out: the grammar decides which tokens may follow"
_PROMPT = "leave it out: a plan has the prompt that planners are trained on"
_ONE = "leave it out: a request gives one plan; send it again for another"

# Fields that would fight the grammar or change the prompt, the values that do not, and what to do instead.
# Every field of vLLM's is here or below, and a test on the engine holds that.
FIGHTING: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "response_format": (({"type": "text"},), _SHAPE),
    "structured_outputs": ((), _SHAPE),
    "tools": (([],), _TOOLS),
    "tool_choice": (("none", "auto"), _TOOLS),
    "functions": (([],), _TOOLS),
    "function_call": (("none", "auto"), _TOOLS),
    "stop": (([],), _ENDS),
    "stop_token_ids": (([],), _ENDS),
    "include_stop_str_in_output": ((False,), _ENDS),
    "ignore_eos": ((False,), _ENDS),
    "min_tokens": ((0,), _ENDS),
    "repetition_detection": ((), _ENDS),
    "logit_bias": (({},), _TOKENS),
    "allowed_token_ids": ((), _TOKENS),
    "bad_words": (([],), _TOKENS),
    "vllm_xargs": (({},), _TOKENS),
    "logits_processors": (([],), _TOKENS),
    "skip_special_tokens": ((True,), _TOKENS),
    "n": ((1,), _ONE),
    "use_beam_search": ((False,), _ONE),
    "echo": ((False,), _PROMPT),
    "add_generation_prompt": ((True,), _PROMPT),
    "continue_final_message": ((False,), _PROMPT),
    "add_special_tokens": ((False,), _PROMPT),
    "documents": (([],), _PROMPT),
    "chat_template": ((), _PROMPT),
    "chat_template_kwargs": (({},), _PROMPT),
    "truncate_prompt_tokens": ((), _PROMPT),
    "truncation_side": ((), _PROMPT),
    "mm_processor_kwargs": (({},), _PROMPT),
    "media_io_kwargs": (({},), _PROMPT),
    "reasoning_effort": (("none",), _PROMPT),
    "thinking_token_budget": ((), _PROMPT),
    "instructions": ((), _PROMPT),
    "reasoning": (({},), _PROMPT),
    "truncation": (("disabled",), _PROMPT),
    "text": (({}, {"format": {"type": "text"}}), _SHAPE),
}  # fmt: skip

# What reaches the engine as the client sent it. Anything else means nothing to it, and is left out.
PASSED = frozenset(
    (
        "model", "stream", "stream_options", "stream_interval", "temperature", "top_p", "top_k", "min_p",
        "seed", "frequency_penalty", "presence_penalty", "repetition_penalty", "logprobs", "top_logprobs",
        "prompt_logprobs", "logprob_token_ids", "max_tokens", "max_completion_tokens", "user", "priority",
        "cache_salt", "request_id", "session_id", "return_token_ids", "return_tokens_as_token_ids",
        "return_token_offsets", "return_prompt_text", "spaces_between_special_tokens",
    )
)  # fmt: skip


def check_plan_fields(fields: Mapping[str, Any]) -> None:
    """Raise RequestRefused for a field that no plan can honour; values that ask for nothing pass."""
    for name, value in fields.items():
        neutral, hint = FIGHTING.get(name, ((value,), ""))
        if value is not None and not any(type(value) is type(other) and value == other for other in neutral):
            raise RequestRefused(
                f"field {name!r} does not go with 's3lora.plan'",
                reason="plan_conflict",
                param=name,
                hint=hint,
            )


def task_of(fields: Mapping[str, Any], *, named: str = "messages") -> str:
    """The text of the one user message. Raises RequestRefused for any other; ``named``: the field for it."""
    messages = fields.get("messages")
    message = messages[0] if isinstance(messages, list) and len(messages) == 1 else None
    if isinstance(message, dict) and message.get("role") == "user":
        text = _text(message.get("content"))
        if text is not None:
            return text
    raise RequestRefused(
        f"{named!r} must be one user message with a text, the task, when 's3lora.plan' is set",
        reason="plan_conflict",
        param=named,
        hint="what is known goes into s3lora.plan.evidence, what was wrong into s3lora.plan.feedback",
    )


def _text(content: Any) -> str | None:
    """The text of a message's content, which clients also send as a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    texts = [part.get("text") if isinstance(part, dict) else None for part in content]
    kinds = {part.get("type") if isinstance(part, dict) else None for part in content}
    if kinds != {"text"} or not all(isinstance(text, str) for text in texts):
        return None
    return "\n".join(str(text) for text in texts)


def plan_fields(
    fields: Mapping[str, Any], request: PlannerInput, max_text: int, engine: Engine
) -> dict[str, Any]:
    """The fields of a chat request whose answer is a plan for ``request``."""
    passed = {name: value for name, value in fields.items() if name in PASSED and value is not None}
    prompt = EnginePrompt.of(request, engine, max_text=max_text)
    if "max_tokens" not in passed and "max_completion_tokens" not in passed:
        passed["max_completion_tokens"] = prompt.max_tokens
    return {
        "temperature": 0.0,
        **passed,
        "messages": prompt.messages,
        "structured_outputs": {"grammar": prompt.grammar},
    }
