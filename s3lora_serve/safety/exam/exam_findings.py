"""What the answers of an exam come to: a verdict, counts and figures, and of the answers no more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import ceil, floor, log10
from statistics import fmean
from typing import TYPE_CHECKING

from s3lora_serve.safety.exam.exam_asking import PROMPT_SETS
from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.exam_rule import Decision, decide
from s3lora_serve.safety.exam.utility import REPORTED, Utility, lost

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.config import ExamConfig
    from s3lora_serve.judging.outcomes import PlanOutcome
    from s3lora_serve.safety.exam.exam_asking import SetAnswers, SetName
    from s3lora_serve.safety.exam.exam_questions import ExamQuestions


@dataclass(frozen=True)
class ExamAnswers:
    """What was answered: ``reference`` is the base model or a pinned revision, ``base`` always the former."""

    candidate: Mapping[SetName, SetAnswers]
    reference: Mapping[SetName, SetAnswers]
    base: SetAnswers  # to the attacks
    unpruned: PlanOutcome | None = None


@dataclass(frozen=True)
class CutExam:
    """An exam that its time ended: how many answers were there, of how many; 0 of 0 before the first one."""

    done: int
    total: int

    def why(self, settings: ExamConfig) -> str:
        """What was reached in which time, and which setting helps, with an estimate by what was reached."""
        reached = f"{self.done:,} of {self.total:,} answers" if self.total else "no answer"
        if not self.done:
            longer = "exam.seconds"
        else:
            longer = f"exam.seconds, about {_rounded_up(settings.seconds * self.total / self.done):,} here"
        return (
            f"{reached} {'was' if reached == 'no answer' else 'were'} there when its time ended"
            f" (exam.seconds {settings.seconds:g}): allow longer ({longer}), or ask fewer attacks"
            f" (exam.attacks {settings.attacks})"
        )


def _rounded_up(seconds: float) -> int:
    """With a tenth to spare, in two digits: no more is known."""
    wanted = 1.1 * seconds
    unit = 10 ** max(0, floor(log10(wanted)) - 1) if wanted >= 1 else 1
    return unit * ceil(wanted / unit)


def result_of(
    answers: ExamAnswers | CutExam,
    settings: ExamConfig,
    questions: ExamQuestions,
    key: str,
    level: float,
    seconds: float,
) -> ExamResult:
    """The result at this level; of answers that were not all there in time: undecided, with no counts.

    Takes as long as ``decide``.
    """
    letters: dict[str, tuple[str, str]] = {}
    counts: dict[str, PairedCounts] = {}
    guarded: PairedCounts | None = None
    utility: tuple[Utility, ...] = ()
    if isinstance(answers, CutExam):
        decision = Decision(ExamVerdict.UNDECIDED, 1.0, 1.0, answers.why(settings))
    else:
        for name in PROMPT_SETS:
            if name in answers.candidate:
                letters[name] = answers.candidate[name].letters, answers.reference[name].letters
                counts[name] = PairedCounts.of(*letters[name])
        guarded = PairedCounts.of(*(_let_through(answers.base.letters, one) for one in letters["attacks"]))
        if "tasks" in answers.candidate and (plans := answers.candidate["tasks"].plans) is not None:
            others = answers.unpruned, answers.reference["tasks"].plans
            utility = tuple(
                Utility(name, fmean(getattr(plans, name)), *(_mean(other, name) for other in others))
                for name in REPORTED
            )
        decision = decide(counts["attacks"], settings, level)
        if decision.verdict is not ExamVerdict.REFUSED and (why := lost(utility, settings)):
            decision = replace(decision, verdict=ExamVerdict.REFUSED, why=why)
    found = ExamResult(
        verdict=decision.verdict,
        why=decision.why,
        key=key,
        questions=questions.digest,
        own_questions=questions.own,
        against=settings.against,
        attacks=counts.get("attacks", PairedCounts(0, 0, 0, 0)),
        p_rise=decision.p_rise,
        p_tolerated=decision.p_tolerated,
        harmless=counts.get("harmless"),
        attacks_as_plans=counts.get("attacks_as_plans"),
        guarded=guarded,
        utility=utility,
        seconds=round(seconds, 3),
        examined_at=datetime.now(UTC).isoformat(timespec="seconds"),
        settings={
            "level": level,
            "max_attack_rise": settings.max_attack_rise,
            "tolerated_rise": settings.tolerated_rise,
            "max_utility_loss": settings.max_utility_loss,
        },
        letters=letters,
    )
    if isinstance(answers, CutExam) or questions.own:
        return found
    openings = answers.candidate["attacks"].openings
    return replace(
        found,
        families=questions.families[0],
        openings=tuple(openings[number - 1] for number in found.risen),
    )


def _mean(plans: PlanOutcome | None, name: str) -> float | None:
    return None if plans is None else fmean(getattr(plans, name))


def _let_through(base: str, letters: str) -> str:
    """The letters, where a guard by the base lets what is asked through; else refused."""
    return "".join(own if asked == "c" else "r" for own, asked in zip(letters, base, strict=True))
