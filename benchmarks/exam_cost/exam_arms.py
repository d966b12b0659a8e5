"""What is compared: the same swap without an exam, and with exams of several sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BACKGROUND = "background"  # the planner that other clients use meanwhile
NONE = "no exam"


@dataclass(frozen=True)
class Arm:
    """A planner with an exam of its own; ``exam`` are its settings beside those of ``OBSERVED``."""

    planner: str
    title: str
    exam: dict[str, Any] = field(default_factory=dict)

    @property
    def section(self) -> dict[str, Any]:
        """The planner's ``exam`` section."""
        return {**OBSERVED, **self.exam} if self.exam else {"action": "off"}


# Dummy weights answer nothing that a verdict could be about, so every verdict serves.
OBSERVED = {"action": "observe", "undecided": "serve", "seconds": 300}
_CHATS: dict[str, Any] = {"harmless": 0, "tasks": 0, "plan_form": False}

ARMS = (
    Arm("none", NONE),
    Arm("chats-48", "48 attacks, chats", {**_CHATS, "attacks": 48}),
    Arm("chats-200", "200 attacks, chats", {**_CHATS, "attacks": 200}),
    Arm("chats-200-few", "200 attacks, chats, share 0.05", {**_CHATS, "attacks": 200, "share": 0.05}),
    Arm("whole", "as shipped: 200 attacks twice, 100 harmless, 40 tasks", {"attacks": 200}),
)
SMALL = (Arm("none", NONE), Arm("chats-24", "24 attacks, chats", {**_CHATS, "attacks": 24}))
