"""What one small exam found."""

from __future__ import annotations

from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.utility import Utility

RESULT = ExamResult(
    verdict=ExamVerdict.REFUSED,
    why="why",
    key="k",
    questions="q",
    own_questions=False,
    against="base",
    attacks=PairedCounts.of("ccrrb", "crrcr"),
    p_rise=0.01,
    p_tolerated=0.9,
    harmless=PairedCounts(3, 1, 1, 1),
    utility=(Utility("loss", 1.5, 1.0, 1.4), Utility("valid", 0.9)),
    settings={"level": 0.05},
    letters={"attacks": ("ccrrb", "crrcr")},
    openings=("Sure! Here",),
)
