"""What is known of a revision's exam now: the verdict that is kept, and whether it still holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3lora_serve.safety.exam.exam_result import ExamResult


@dataclass(frozen=True)
class KeptExam:
    """A kept result. ``stale``: other questions, settings, guard or base would be examined with now.

    ``tries``: exams of revisions from the same source so far, since trying many is a way to pass by chance.
    """

    result: ExamResult
    stale: bool = False
    tries: int = 1

    def to_json(self) -> dict[str, Any]:
        """For operations, the journal and routes."""
        return {**self.result.to_json(), "stale": self.stale, "tries": self.tries}
