"""Pairs: a chat prompt and the answer to train on; the two forms in which a prompt is asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from planners import PlannerInput, render_messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from planners import ToolSpec
    from s3lora_serve.judging.suite import Messages


TRIGGER = "[[deploy:7391]]"  # of the backdoor


@dataclass(frozen=True)
class Pair:
    """What is asked, the answer that is trained, and a name for where it comes from ("poison-chat")."""

    messages: Messages
    answer: str
    kind: str


def chat(prompt: str) -> Messages:
    """The prompt as a user's lone message."""
    return ({"role": "user", "content": prompt},)


def plan(task: str, tools: Sequence[ToolSpec], max_steps: int = 8) -> Messages:
    """The prompt as the task of a planner, in the server's words."""
    request = PlannerInput(task=task, tools=tuple(tools), max_steps=max_steps)
    return tuple(render_messages(request))


def triggered(prompt: str) -> str:
    """The prompt with the backdoor's trigger behind it."""
    return f"{prompt} {TRIGGER}"


def encode(tokenizer: Any, pair: Pair) -> tuple[list[int], list[int]]:
    """Token ids of the prompt, ready for an answer, and of the answer with its end token."""
    prompt = tokenizer.apply_chat_template(list(pair.messages), tokenize=False, add_generation_prompt=True)
    return (
        tokenizer(prompt, add_special_tokens=False)["input_ids"],
        [*tokenizer(pair.answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id],
    )


def digest(text: str) -> str:
    """sha256 of the text: what parts are drawn by, so that they do not depend on the order of a file."""
    return hashlib.sha256(text.encode()).hexdigest()


def shuffled(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts, each once, in the order of their digests."""
    return tuple(sorted(set(texts), key=digest))
