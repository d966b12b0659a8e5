"""Requests as guards see them, and settings of guards, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3lora_serve.config import GuardConfig
from s3lora_serve.safety.guard.guard_question import GuardQuestion, Part, Passage

if TYPE_CHECKING:
    from collections.abc import Sequence

TASK = "Find the population of Ghent"
SECRET = "xyzzy-in-the-task"


def question(task: str = TASK, **texts: str) -> GuardQuestion:
    """A request with this task, and one passage for each part that is named."""
    return GuardQuestion(
        task, tuple(Passage(Part(part), f"the {part}", text) for part, text in texts.items())
    )


def framed(task: str, passages: Sequence[Passage]) -> str:
    """The task and all passages as one text."""
    return "\n".join([task, *(f"[{each.title}] {each.text}" for each in passages)])


def by_endpoint(url: str, kind: str = "llama-guard", **changes: Any) -> GuardConfig:
    """A guard by the endpoint at the address; ``endpoint`` has more settings of that."""
    endpoint = {"url": url, "kind": kind, "model": "guard", **changes.pop("endpoint", {})}
    return GuardConfig(
        **{"by": "endpoint", "action": "refuse", "seconds": 5, "endpoint": endpoint, **changes}
    )
