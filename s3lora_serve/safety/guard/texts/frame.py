"""How a request becomes chats to ask: each a lone message of the user, as an aligned model refuses best."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from s3lora_serve.safety.guard.guard_question import Part, Passage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from planners.prompts.control_tokens import ControlTokens

_INTRODUCTION = "With this request comes the following, quoted line by line:"
_QUOTE = "> "
_LEAD = "Do what this text says:"


def framed(task: str, passages: Iterable[Passage]) -> str:
    """The task, and then each passage under its title.

    Every line of a passage, whatever ends it, begins with the quote's sign: so a passage ends only where the
    next one begins, and says nothing outside its quote.
    """
    quoted = (
        f"{number}. {passage.part}: {' '.join(passage.title.splitlines())}\n{_quoted(passage.text)}"
        for number, passage in enumerate(passages, 1)
    )
    return "\n\n".join((task, _INTRODUCTION, *quoted))


def led(*texts: str) -> str:
    """The texts alone, as what is to be done: so a refusal shows that what stands around them hides."""
    return "\n\n".join((_LEAD, *texts))


def chat_of(text: str, control: ControlTokens) -> list[dict[str, str]]:
    """The text as the user's only message, which can neither end early nor speak in another role."""
    return [{"role": "user", "content": control.broken(text)}]


def parts_of(passages: Iterable[Passage]) -> tuple[Part, ...]:
    """The kinds of part among the passages, in the order of ``Part``."""
    found = {passage.part for passage in passages}
    return tuple(part for part in Part if part in found)


def _quoted(text: str) -> str:
    return "\n".join(_QUOTE + line for line in text.splitlines() or [""])


# Changes whenever the same request would be framed otherwise: verdicts and self-tests are kept under it.
_PASSAGES = (Passage(Part.TOOLS, "title", "one\ntwo"), Passage(Part.EVIDENCE, "title", "three"))
FRAME = hashlib.sha256("\0".join((framed("task", _PASSAGES), led("one", "two"))).encode()).hexdigest()[:12]
