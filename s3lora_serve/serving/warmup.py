"""Grammars compiled before a request needs them: those for the tools that planners.yaml gives to planners."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from planners import PlannerInput, ToolSpec, plan_grammar
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineDead, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3lora_serve.engine.port import Engine

log = logging.getLogger(__name__)

_MESSAGES = ({"role": "user", "content": "Plan."},)
# What all grammars share is compiled with the first one, which takes a second or two; after it another set
# of tools takes a tenth. So one with text and one with JSON arguments are compiled always.
SAMPLES = (
    (ToolSpec(name="Tool"),),
    (
        ToolSpec(
            name="Tool",
            parameters={
                "type": "object",
                "properties": {"text": {"type": "string"}},
                "required": ["text"],
            },
        ),
    ),
)


class Warmer:
    """Knows which grammars the running engine has compiled, and has it compile others."""

    def __init__(self, max_text: int) -> None:
        """``max_text`` is what requests get that do not ask for another bound: it is part of the grammar."""
        self._max_text = max_text
        self._warm: set[str] = set()

    def forget(self) -> None:
        """A new engine has compiled nothing."""
        self._warm.clear()

    async def warm(self, engine: Engine, tool_sets: Iterable[tuple[ToolSpec, ...]]) -> None:
        """Let the engine compile the grammar of each set, for the usual number of steps; never raises.

        What every other set will need of a grammar is compiled, too.

        One token of the base model does it: vLLM compiles when a request arrives, and keeps what it compiled
        by the grammar's text (v1/structured_output/backend_xgrammar.py).
        """
        steps = PlannerInput.model_fields["max_steps"].default
        for tools in (*tool_sets, *SAMPLES):
            grammar = plan_grammar(tools, steps, max_text=self._max_text) if tools else None
            if grammar is None or grammar in self._warm:
                continue
            self._warm.add(grammar)
            try:
                await engine.chat(_MESSAGES, None, Sampling(max_tokens=1, grammar=grammar))
            except EngineDead:
                self._warm.discard(grammar)
                return
            except EngineError as error:  # the first request gets this error, too
                self._warm.discard(grammar)
                names = ", ".join(tool.name for tool in tools)
                log.warning("the grammar of the tools %s could not be compiled: %s", names, error)
