"""What a guard found about one request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from s3lora_serve.safety.guard.guard_question import Part

JudgeName = Literal["base", "endpoint"]


TOO_MANY = "the request takes more than"  # begins why there is no verdict about what is too long


class Found(StrEnum):
    """Whether the answer to a request may leave. ``fail`` decides about the last two."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNDECIDED = "undecided"  # an answer that is neither a refusal nor help: empty, broken, not English
    FAILED = "failed"  # no answer at all: the engine or the endpoint failed or was late


@dataclass(frozen=True)
class Ruling:
    """One judge's finding. ``why`` is for logs and operators; it has nothing of request or answer."""

    finding: Found
    by: JudgeName
    # Which part of the request a refusal is about, and an undecided one if that part is only observed.
    part: Part | None = None
    why: str = ""
    prompt_tokens: int = 0  # that the judge read and wrote for this request; 0 from the cache
    output_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False

    @property
    def too_many(self) -> bool:
        """Whether there is no verdict since the request takes more questions than are asked about one."""
        return self.finding is Found.UNDECIDED and self.why.startswith(TOO_MANY)


def too_many(most: int, together: int, whom: str) -> str:
    """Why there is no verdict about what takes more questions than ``most``, or with others ``together``."""
    return f"{TOO_MANY} {most} questions to {whom}, or its prompts together more than {together}"
