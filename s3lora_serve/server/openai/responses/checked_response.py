"""One request for a response as it was checked; guards and constraints read the chat that it stands for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from s3lora_serve.server.openai.checked_request import CheckedRequest
from s3lora_serve.server.openai.constraints import check_constraints
from s3lora_serve.server.openai.extras import extras_of, planner_input
from s3lora_serve.server.openai.fields.chat_fields import check_fields
from s3lora_serve.server.openai.fields.known_fields import BOTH, unknown_fields
from s3lora_serve.server.openai.fields.plain_messages import plain_messages
from s3lora_serve.server.openai.guarded.guard_fields import RESPONSES_ONLY
from s3lora_serve.server.openai.plan_chat import PASSED, check_plan_fields, task_of
from s3lora_serve.server.openai.responses.input_items import items_of, messages_of
from s3lora_serve.server.openai.responses.response_fields import REFUSED, calls_of, checked_fields
from s3lora_serve.server.validation import RequestRefused
from s3lora_serve.serving.plan_prompt import EnginePrompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from planners import ToolSpec
    from planners.prompts.control_tokens import ControlTokens
    from s3lora_serve.config import PlansConfig, ServerConfig
    from s3lora_serve.engine.port import Engine

RESPONSES = "/v1/responses"
KNOWN_FIELDS = BOTH | RESPONSES_ONLY | REFUSED.keys() | {"input", "instructions", "tool_choice", "tools"}
_ECHOED = ("instructions", "tools")  # what the engine repeats, and is asked otherwise than the client did
_TOLD = ("instructions", "tools")
_FLAG = TypeAdapter(bool)  # as vLLM reads it: "true" and 1 are true, too
_PASSED = PASSED | {"max_output_tokens", "include", "metadata", "store"}


@dataclass(frozen=True)
class CheckedResponse(CheckedRequest):
    """``fields`` are without ``input``, whose items stand in ``messages`` as a chat's would."""

    messages: Sequence[Mapping[str, Any]] = ()
    echo: Mapping[str, Any] | None = None  # of the client's fields

    @classmethod
    def of(cls, fields: Mapping[str, Any], path: str, limits: ServerConfig) -> CheckedResponse:
        """Check the body. Raises RequestRefused for what would do nothing, is kept nowhere or not allowed."""
        check_fields(fields)
        ours = {name: value for name, value in fields.items() if name not in ("s3lora", "input")}
        checked = checked_fields(ours, limits.allow_fields)
        unknown = unknown_fields(
            {name: value for name, value in checked.items() if name != "store"},
            chat=False,
            strict=limits.strict_fields,
            known=KNOWN_FIELDS,
        )
        messages = messages_of(fields.get("input"))
        check_constraints(checked)
        extras = extras_of(fields)
        if extras.plan is not None:
            check_plan_fields(checked)
        if "stream" in checked:
            checked["stream"] = _flag(checked["stream"])
        echo = {name: fields[name] for name in _ECHOED if fields.get(name) is not None}
        return cls(checked, extras, unknown=unknown, messages=messages, echo=echo)

    @property
    def choices(self) -> int:
        return 1

    @property
    def as_chat(self) -> Mapping[str, Any]:
        told = self.fields.get("instructions")
        first = [] if told is None else [{"role": "system", "content": told}]
        fields = {name: value for name, value in self.fields.items() if name != "instructions"}
        return {**fields, "messages": [*first, *self.messages]}

    def named(self, field: str) -> str:
        return "input" if field == "messages" else field

    def check_calls(self, engine: Engine) -> None:
        """Raise RequestRefused for tools that the engine could not call: it would write a text instead."""
        if calls_of(self.fields) and not engine.calls_tools:
            raise RequestRefused(
                "this server's engine has no parser for calls of tools",
                reason="unsupported_field",
                param="tools",
                hint="leave 'tools' out; an operator can set engine.extra_args.tool_call_parser",
            )

    def planning(self, own: tuple[ToolSpec, ...], limits: PlansConfig, engine: Engine) -> CheckedResponse:
        if self.extras.plan is None:
            return self
        task = task_of({"messages": self.messages}, named="input")
        request, max_text = planner_input(self.extras.plan, task, own, str(self.fields["model"]), limits)
        passed = {name: value for name, value in self.fields.items() if name in _PASSED}
        prompt = EnginePrompt.of(request, engine, max_text=max_text)
        fields = {
            "temperature": 0.0,
            "max_output_tokens": prompt.max_tokens,
            **passed,
            "structured_outputs": {"grammar": prompt.grammar},
        }
        bounded = "max_output_tokens" in passed
        return replace(self, fields=fields, plan=request, bounded=bounded, messages=prompt.messages)

    def as_text(self, control: ControlTokens) -> CheckedResponse:
        told = {name: self.fields[name] for name in _TOLD if name in self.fields}
        broken = control.broken_in({**told, "messages": plain_messages(list(self.messages))})
        messages = broken.pop("messages")
        return replace(self, fields={**self.fields, **broken}, messages=messages)

    def body(self, model: str) -> bytes:
        try:
            return json.dumps({**self.fields, "model": model, "input": items_of(self.messages)}).encode()
        except RecursionError:
            raise RequestRefused("the JSON is nested too deeply", reason="invalid_json") from None


def _flag(value: Any) -> Any:
    """A flag as the engine reads it; what is none is left for it to refuse."""
    try:
        return _FLAG.validate_python(value)
    except ValidationError:
        return value
