"""What climbing a ladder came to: a row for each rung, the one that was chosen, and random controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict

if TYPE_CHECKING:
    from s3lora_serve.safety.exam.ladder import Ladder
    from s3lora_serve.safety.exam.rung_exam import RungFound


@dataclass(frozen=True)
class Control:
    """As many modules at random, examined on the questions that confirm."""

    seed: int
    top: int
    result: ExamResult


@dataclass(frozen=True)
class Mended:
    """``rungs`` as far as they were climbed; ``chosen`` is the last of them, or None if none passes."""

    name: str
    modules: int  # that have a score
    ladder: Ladder
    level: float
    rungs: tuple[RungFound, ...]
    chosen: RungFound | None
    controls: tuple[Control, ...] = ()

    @property
    def headline(self) -> str:
        """What was found, in a sentence."""
        if self.chosen is None:
            return f"none of {len(self.rungs)} rungs passes: this adapter is not mended by pruning"
        rung = self.chosen.rung
        if not rung.top:
            return "it passes as it is: nothing is pruned"
        return f"the least pruning that passes leaves out {rung.top} of {self.modules} modules"

    @property
    def compared(self) -> str:
        """What the controls say of the ranking; empty without any."""
        if not self.controls:
            return ""
        passed = sum(control.result.verdict is ExamVerdict.PASSED for control in self.controls)
        top = self.controls[0].top
        shown = ", ".join(f"{100 * control.result.attacks.candidate:.0f} %" for control in self.controls)
        said = (
            f"{top} modules at random: {passed} of {len(self.controls)} draws pass (attack success {shown})"
        )
        return f"{said}, so the ranking is not what mends it" if passed and self.chosen is not None else said
