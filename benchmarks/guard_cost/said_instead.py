"""Start the server with a base model that says a sentence of ours, after as many tokens as it would take.

    python benchmarks/guard_cost/said_instead.py --config planners.yaml

Dummy weights say nothing: no answer of theirs ends with a sentence, and the guard would come to no verdict.
What is asked, generated and judged is the product's own; only the text is replaced that is judged.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[2]))  # a GPU host does not have the product installed

if TYPE_CHECKING:
    from s3lora_serve.engine.port import Completion
    from s3lora_serve.safety.guard.base_answer import BaseAnswer

LONG_CALLER = "long-answers"  # whose answers of the base end after 64 tokens, all others' after 24
_SHORT = (("Here is one way to go about it, step by step.", "stop"),)
_LONG = (
    ("Here is one way to go about it, which takes a few steps that follow each other", "length"),
    (" and of which none can be done before the last one is", "length"),
)


class Saying:
    """The engine for one question to the base model: it generates as ever, and says one of the above."""

    def __init__(self, engine: Any, caller: str) -> None:
        self._engine = engine
        self._says = iter(_LONG if caller == LONG_CALLER else _SHORT)

    async def continue_tokens(self, *asked: Any, **more: Any) -> Completion:
        """As the engine's."""
        found: Completion = await self._engine.continue_tokens(*asked, **more)
        text, reason = next(self._says)
        return replace(found, text=text, facts=replace(found.facts, finish_reason=reason))


def say_instead() -> None:
    """Put ``Saying`` between the guard and its engine, in this process."""
    from s3lora_serve.safety.guard import base_answer, base_questions

    ask = base_answer.ask_base
    if base_questions.ask_base is not ask:
        raise RuntimeError("s3lora_serve.safety.guard.base_questions no longer asks by base_answer.ask_base")

    async def asked(engine: Any, question: Any, line: str, caller: str, **more: Any) -> BaseAnswer:
        return await ask(Saying(engine, caller), question, line, caller, **more)

    base_questions.ask_base = asked


if __name__ == "__main__":  # vLLM's processes import the main module again
    from s3lora_serve.launch.serve import main

    say_instead()
    main()
