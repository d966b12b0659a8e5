"""What a guard is asked about one request: the task, and all else that reaches the planner's prompt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from s3lora_serve.storage.canonical_json import canonical_digest


class Part(StrEnum):
    """Where in a request a text stands; a refusal names it, and never its text."""

    TASK = "task"  # the last thing that the user said, or a completion's whole prompt
    HISTORY = "history"  # earlier turns of the conversation
    SYSTEM = "system"
    TOOLS = "tools"  # names, descriptions and schemas that the client sent
    EVIDENCE = "evidence"  # results of tools
    FEEDBACK = "feedback"
    DOCUMENTS = "documents"


@dataclass(frozen=True)
class Passage:
    """One text of a request besides its task. ``title`` says in a few words what it is: "tool Search"."""

    part: Part
    title: str
    text: str


@dataclass(frozen=True)
class GuardQuestion:
    """A request as its guard sees it. Nothing of what the client sent is missing, cut or rewritten.

    ``turns``: what the user said earlier, oldest first, each of which is also a passage of the history.
    ``unreadable`` names what a text guard cannot judge (an image, token ids), or is empty: such a request
    is never allowed.
    """

    task: str
    passages: tuple[Passage, ...] = ()
    turns: tuple[str, ...] = ()
    unreadable: str = ""

    @property
    def size(self) -> int:
        """Characters of all its texts."""
        return len(self.task) + sum(len(passage.text) for passage in self.passages)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it: the same for the same request, and for no other."""
        return canonical_digest({**vars(self), "passages": [vars(passage) for passage in self.passages]})
