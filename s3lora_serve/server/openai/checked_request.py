"""One chat or completion request as it was checked: what the engine is asked, and what is ours to do."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.constraints import check_constraints
from s3lora_serve.server.openai.extras import Extras, extras_of, planner_input
from s3lora_serve.server.openai.fields.chat_fields import check_count, check_fields
from s3lora_serve.server.openai.fields.chat_shapes import check_chat, check_shapes
from s3lora_serve.server.openai.fields.known_fields import unknown_fields
from s3lora_serve.server.openai.fields.lost_constraints import check_not_lost
from s3lora_serve.server.openai.fields.plain_messages import plain_messages
from s3lora_serve.server.openai.fields.steering_fields import check_steering, with_own_salt
from s3lora_serve.server.openai.fields.stream_usage import UsageAt, usage_at, with_usage
from s3lora_serve.server.openai.fields.tool_strictness import with_strict_tools
from s3lora_serve.server.openai.plan_chat import check_plan_fields, plan_fields, task_of
from s3lora_serve.server.validation import RequestRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planners import PlannerInput, ToolSpec
    from planners.prompts.control_tokens import ControlTokens
    from s3lora_serve.config import PlansConfig, ServerConfig
    from s3lora_serve.engine.port import Engine

CHAT = "/v1/chat/completions"
_NONE: tuple[str, Any] = ("tools", [])
_TOLD = ("messages", "tools", "documents")  # what a chat template puts into the prompt


@dataclass(frozen=True)
class CheckedRequest:
    """``fields`` are those of the client, checked; ``s3lora`` is no longer among them."""

    fields: Mapping[str, Any]
    extras: Extras
    plan: PlannerInput | None = None  # with it, the answer is read as a plan
    bounded: bool = False  # by the client's own number of tokens
    usage: UsageAt = UsageAt.FINISH  # where a stream tells it
    unknown: tuple[str, ...] = ()  # fields that do nothing

    @classmethod
    def of(cls, fields: Mapping[str, Any], path: str, limits: ServerConfig) -> CheckedRequest:
        """Check the body. Raises RequestRefused for what would do nothing, is over a limit or not allowed."""
        chat = path == CHAT
        check_fields(fields, chat=chat)
        unknown = unknown_fields(fields, chat=chat, strict=limits.strict_fields)
        check_shapes(fields)
        check_not_lost(fields)
        check_count(fields, limits.max_n)
        check_steering(fields, limits.allow_fields)
        check_constraints(fields)
        extras = extras_of(fields)
        if extras.plan is not None:
            if not chat:
                raise RequestRefused(
                    f"'s3lora.plan' would have no effect at {path}",
                    reason="ignored_field",
                    param="s3lora.plan",
                    hint=f"plans are made at {CHAT} and at /v1/plans",
                )
            check_plan_fields(fields)
        elif chat:
            check_chat(fields)
        # No tools are what some clients send for none; vLLM refuses that.
        ours = {name: value for name, value in fields.items() if name != "s3lora" and (name, value) != _NONE}
        if chat:
            ours = with_strict_tools(ours)
        return cls(with_usage(with_own_salt(ours)), extras, usage=usage_at(fields), unknown=unknown)

    @property
    def as_chat(self) -> Mapping[str, Any]:
        """The fields as those of a chat, for who judges it; a completion's as they are."""
        return self.fields

    def named(self, field: str) -> str:
        """What the client calls a field of ``as_chat``."""
        return field

    @property
    def stream(self) -> bool:
        """Whether the answer comes in chunks."""
        return self.fields.get("stream") is True

    @property
    def choices(self) -> int:
        """How many answers were asked for, as far as that can be read: at least one."""
        n, prompt = self.fields.get("n"), self.fields.get("prompt")
        try:
            number = int(n) if isinstance(n, int | float | str) else 1
        except (ValueError, OverflowError):
            number = 1
        return max(number, 1) * max(len(prompt) if isinstance(prompt, list) else 1, 1)

    def planning(self, own: tuple[ToolSpec, ...], limits: PlansConfig, engine: Engine) -> CheckedRequest:
        """The request for a plan that ``s3lora.plan`` makes of it, else itself. Raises RequestRefused."""
        if self.extras.plan is None:
            return self
        who = str(self.fields["model"])
        request, max_text = planner_input(self.extras.plan, task_of(self.fields), own, who, limits)
        fields = plan_fields(self.fields, request, max_text, engine)
        bounded = any(self.fields.get(name) is not None for name in ("max_tokens", "max_completion_tokens"))
        return replace(self, fields=fields, plan=request, bounded=bounded)

    def as_text(self, control: ControlTokens) -> CheckedRequest:
        """The chat with control tokens in its messages and tools broken up, however they are written."""
        told = {name: self.fields[name] for name in _TOLD if name in self.fields}
        if "messages" in told:
            told["messages"] = plain_messages(told["messages"])
        return replace(self, fields={**self.fields, **control.broken_in(told)})

    def body(self, model: str) -> bytes:
        """The body for the engine's application; ``model`` is what the engine knows it by.

        Written anew, and not patched: so the engine reads exactly the fields that were checked.
        """
        try:
            return json.dumps({**self.fields, "model": model}).encode()
        except RecursionError:  # it may take more of the stack than reading it did
            raise RequestRefused("the JSON is nested too deeply", reason="invalid_json") from None
