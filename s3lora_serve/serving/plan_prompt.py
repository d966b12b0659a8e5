"""What the engine is asked for a plan: messages, grammar and budget; the same on every route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planners import plan_grammar, render_messages
from planners.grammar import MAX_TEXT
from planners.prompts.control_tokens import control_tokens_of
from planners.tools import MAX_TOOL_NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planners import PlannerInput
    from s3lora_serve.engine.port import Engine

# "Plan: ", "\n#E32 = ", a tool's name, brackets, a line break and the input's references, in characters.
_STEP_FRAME = 24 + MAX_TOOL_NAME + 28
_CHAR_BYTES = 4  # of UTF-8, at most


@dataclass(frozen=True)
class EnginePrompt:
    """One question to the engine. Without a grammar the planner writes what it likes."""

    messages: Sequence[dict[str, str]]
    grammar: str | None
    max_tokens: int

    @classmethod
    def of(
        cls, request: PlannerInput, engine: Engine, *, max_text: int, constrained: bool = True
    ) -> EnginePrompt:
        """``max_text``: characters of a thought or an input; the rest of the limits is the engine's."""
        return cls(
            messages=render_messages(request, control_tokens_of(engine.control_tokens)),
            grammar=plan_grammar(
                request.tools, request.max_steps, first=request.first_step, max_text=max_text
            )
            if constrained
            else None,
            max_tokens=token_budget(request, engine.max_model_len, max_text),
        )


def token_budget(request: PlannerInput, max_model_len: int, max_text: int = MAX_TEXT) -> int:
    """Most tokens a plan may take: one for each byte that the grammar allows, within the model's length.

    No token is less, so a plan is never cut that the model had room for, in whatever script it is written; a
    model that rambles still ends. JSON arguments may hold many texts, so only the model's length bounds them.
    """
    if any(tool.parameters is not None for tool in request.tools):
        return max_model_len
    return min(request.max_steps * (2 * _CHAR_BYTES * max_text + _STEP_FRAME), max_model_len)
