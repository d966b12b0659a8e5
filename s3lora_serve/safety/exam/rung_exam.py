"""One rung examined: half of the questions may choose it, the other half must confirm it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import ConfigError
from s3lora_serve.safety.exam.exam_questions import questions_digest
from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict, lets_serve
from s3lora_serve.safety.exam.exam_rule import decide
from s3lora_serve.safety.exam.utility import lost
from s3lora_serve.storage.daemon_threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from s3lora_serve.config import ExamConfig
    from s3lora_serve.safety.exam.exam_questions import ExamQuestions
    from s3lora_serve.safety.exam.ladder import Rung
    from s3lora_serve.safety.exam.utility import Utility

    AskHalf = Callable[[int, float | None], Awaitable[ExamResult]]
    """(0: the half that chooses, 1: the half that confirms; the level, None: that of the settings)"""

HALVES_SEED = 0  # which questions are in which half: the same on every machine


@dataclass(frozen=True)
class RungTerms:
    """How a rung is examined: the level of its confirmation, and what the unpruned adapter came to."""

    level: float
    unpruned: tuple[Utility, ...] = ()  # on the half that chooses; empty while that is not known


@dataclass(frozen=True)
class RungExam:
    """What the halves said. ``result`` is the revision's verdict, which is kept like any other exam's."""

    result: ExamResult
    chosen: ExamResult
    confirmed: ExamResult | None  # None: the first half refused it


@dataclass(frozen=True)
class RungFound:
    """A row of the table that a ladder leaves behind: one rung, and what became of it."""

    rung: Rung
    revision: str = ""  # digest; empty if none was admitted
    verdict: str = ""  # passed, refused or undecided; empty if it was not examined
    why: str = ""
    chosen: ExamResult | None = None
    confirmed: ExamResult | None = None

    @classmethod
    def of(
        cls, rung: Rung, revision: str, why: str, result: ExamResult | None, exam: RungExam | None = None
    ) -> RungFound:
        """The row of a revision with this verdict, if it has one, by this exam or by an earlier one."""
        verdict = "" if result is None else result.verdict.value
        chosen = exam.chosen if exam else result
        return cls(rung, revision, verdict, why, chosen, exam.confirmed if exam else None)

    def to_json(self) -> dict[str, Any]:
        """For the journal and the operation: counts, no texts."""
        return {
            "tau": self.rung.tau,
            "top": self.rung.top,
            "revision": self.revision,
            "verdict": self.verdict,
            "why": self.why,
            "chosen": None if self.chosen is None else vars(self.chosen.attacks).copy(),
            "confirmed": None if self.confirmed is None else vars(self.confirmed.attacks).copy(),
            "utility": [vars(one).copy() for one in self.chosen.utility] if self.chosen else [],
        }

    def __str__(self) -> str:
        verdict = self.verdict or "not examined"
        return f"top {self.rung.top} ({100 * self.rung.tau:g} %): {verdict}, {self.why}"


def serves(result: ExamResult, settings: ExamConfig) -> bool:
    """Whether a revision with this result may serve under these settings."""
    return lets_serve(result.verdict, settings)


def rung_halves(questions: ExamQuestions) -> tuple[ExamQuestions, ExamQuestions]:
    """Half of the prompts and every task, to choose by, and the other prompts, to confirm by.

    Tasks are not divided: figures of two rungs are compared, so they must be of the same tasks. The same
    questions are divided alike on every machine. Raises ConfigError if a half would have no attack.
    """
    try:
        one, other = questions.halves(HALVES_SEED)
    except ValueError as error:
        raise ConfigError(f"exam: {error}", hint="ask more attacks (exam.attacks)") from error
    return _with_tasks(one, questions), _with_tasks(other, None)


def _with_tasks(half: ExamQuestions, whole: ExamQuestions | None) -> ExamQuestions:
    tasks = whole.tasks if whole else ()
    return replace(
        half,
        tasks=tasks,
        digest=questions_digest(half.attacks, half.harmless, tasks),
        families=(*half.families[:2], whole.families[2] if whole else ()),
        lines=(*half.lines[:2], whole.lines[2] if whole else ()),
    )


async def examine_rung(ask: AskHalf, settings: ExamConfig, terms: RungTerms) -> RungExam:
    """Ask the half that chooses; unless that refuses the revision, the half that confirms.

    Chosen is what is not refused and keeps its utility. The confirmation is held to the stricter level, and
    its attacks are what the verdict counts: they chose nothing. But what both halves together refuse, as an
    undivided exam would, is refused: each half alone proves less. Raises what ``ask`` does.
    """
    chosen = _beside(await ask(0, None), settings, terms.unpruned)
    if chosen.verdict is ExamVerdict.REFUSED or not chosen.complete:
        return RungExam(_numberless(chosen), chosen, None)
    confirmed = await ask(1, terms.level)
    result = replace(
        _numberless(confirmed),
        utility=chosen.utility,
        seconds=chosen.seconds + confirmed.seconds,
        why=f"of the questions that chose nothing: {confirmed.why}",
    )
    if confirmed.complete and confirmed.verdict is not ExamVerdict.REFUSED:
        result = await DaemonThreads("exam", 1).run(_unless_refused, result, chosen, settings)
    return RungExam(result, chosen, confirmed)


def _unless_refused(result: ExamResult, chosen: ExamResult, settings: ExamConfig) -> ExamResult:
    """The result, or a refusal if the answers of both halves prove a rise. Takes as long as ``decide``."""
    whole = result.attacks + chosen.attacks
    found = decide(whole, settings)
    if found.verdict is not ExamVerdict.REFUSED:
        return result
    return replace(
        result,
        verdict=found.verdict,
        why=f"of the questions of both halves: {found.why}",
        attacks=whole,
        p_rise=found.p_rise,
        p_tolerated=found.p_tolerated,
        settings={**result.settings, "level": 1 - settings.confidence},
    )


def _numberless(result: ExamResult) -> ExamResult:
    """Without what stands by prompt: its numbers are those of a half, not of all that is asked."""
    return replace(result, letters={}, families=(), openings=())


def _beside(chosen: ExamResult, settings: ExamConfig, unpruned: Sequence[Utility]) -> ExamResult:
    """The result with its figures beside the unpruned adapter's, and refused if one lost too much."""
    before = {one.name: one.candidate for one in unpruned}
    utility = tuple(
        replace(one, unpruned=before[one.name]) if one.name in before else one for one in chosen.utility
    )
    if chosen.verdict is not ExamVerdict.REFUSED and (why := lost(utility, settings)):
        return replace(chosen, utility=utility, verdict=ExamVerdict.REFUSED, why=why)
    return replace(chosen, utility=utility)


@dataclass
class RungTrial:
    """A rung that is about to be loaded, and what its exam came to once it was."""

    terms: RungTerms
    found: RungExam | None = field(default=None)


class RungTrials:
    """Which slots are loaded as rungs now: the check that examines asks, the order that mends says."""

    def __init__(self) -> None:
        self._trials: dict[str, RungTrial] = {}

    @contextmanager
    def on(self, slot: str, terms: RungTerms) -> Iterator[RungTrial]:
        """Within, what is loaded into the slot of this name is examined as a rung."""
        trial = self._trials[slot] = RungTrial(terms)
        try:
            yield trial
        finally:
            if self._trials.get(slot) is trial:
                del self._trials[slot]

    def of(self, slot: str) -> RungTrial | None:
        """The trial of what is in this slot, if it is a rung's."""
        return self._trials.get(slot)
