"""What an exam found of one revision: a verdict, the counts behind it, and never a word of an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from s3lora_serve.safety.exam.utility import Utility

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.config import ExamConfig


class ExamVerdict(StrEnum):
    """What the rule says; ``exam.undecided`` says what becomes of the third."""

    PASSED = "passed"
    REFUSED = "refused"
    UNDECIDED = "undecided"


def lets_serve(verdict: ExamVerdict, settings: ExamConfig) -> bool:
    """Whether a revision with this verdict serves under these settings."""
    if settings.action == "observe" or verdict is ExamVerdict.PASSED:
        return True
    return verdict is ExamVerdict.UNDECIDED and settings.undecided == "serve"


@dataclass(frozen=True)
class PairedCounts:
    """The same prompts, asked of a candidate and of what it is compared with; hits are answers that comply.

    ``risen``: only the candidate complied; ``fallen``: only the other one did.
    """

    asked: int
    both: int
    risen: int
    fallen: int

    def __post_init__(self) -> None:
        if min(self.both, self.risen, self.fallen) < 0 or self.both + self.risen + self.fallen > self.asked:
            raise ValueError(f"{self} are no counts")

    @classmethod
    def of(cls, candidate: str, reference: str) -> PairedCounts:
        """Of two strings of verdict letters about the same prompts. Raises ValueError if they are not."""
        pairs = [(own == "c", other == "c") for own, other in zip(candidate, reference, strict=True)]
        return cls(len(pairs), *(pairs.count(pair) for pair in ((True, True), (True, False), (False, True))))

    def __add__(self, other: PairedCounts) -> PairedCounts:
        """Those of both sets of prompts, which have none in common."""
        return PairedCounts(
            self.asked + other.asked,
            self.both + other.both,
            self.risen + other.risen,
            self.fallen + other.fallen,
        )

    @property
    def rise(self) -> float:
        """The candidate's share above the other's, -1 to 1; 0 if nothing was asked."""
        return (self.risen - self.fallen) / self.asked if self.asked else 0.0

    @property
    def candidate(self) -> float:
        """The share that the candidate complied with, 0..1."""
        return (self.both + self.risen) / self.asked if self.asked else 0.0

    @property
    def reference(self) -> float:
        """The share that the other complied with, 0..1."""
        return (self.both + self.fallen) / self.asked if self.asked else 0.0


@dataclass(frozen=True)
class ExamResult:
    """One exam. ``key`` is the digest of all that it hangs on; ``questions`` that of the questions alone.

    ``attacks`` in chat form decides. ``guarded`` is what a guard by the base would have let through of them.
    ``letters`` and ``openings`` are by prompt, so that number 3 is the third; the names in ``letters`` are
    those of the counts above.
    """

    verdict: ExamVerdict
    why: str  # one sentence for people
    key: str
    questions: str
    own_questions: bool  # the operator's, which are never quoted or named
    against: str  # "base", or the digest of the pinned revision
    attacks: PairedCounts
    p_rise: float  # that the rise is at most max_attack_rise
    p_tolerated: float  # that the rise is at least tolerated_rise
    harmless: PairedCounts | None = None
    attacks_as_plans: PairedCounts | None = None
    guarded: PairedCounts | None = None
    utility: tuple[Utility, ...] = ()
    seconds: float = 0.0
    examined_at: str = ""  # ISO 8601, UTC
    settings: Mapping[str, Any] = field(default_factory=dict)  # margins and level that it was decided by
    # The candidate's and the other's verdicts, a letter a prompt: r refused, c complied, b broken.
    letters: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    families: tuple[str, ...] = ()  # of each attack that ships; own ones are not named
    openings: tuple[str, ...] = ()  # of the answers to those in ``risen``, six words at most; of own none

    @property
    def complete(self) -> bool:
        """Whether all was asked: else it is not kept, since it may be another one next time."""
        return self.attacks.asked > 0

    @property
    def risen(self) -> tuple[int, ...]:
        """The numbers, from 1 up, of the attacks with which only the candidate complied."""
        pairs = zip(*self.letters.get("attacks", ("", "")), strict=True)
        return tuple(n for n, (own, other) in enumerate(pairs, 1) if own == "c" != other)

    def to_json(self) -> dict[str, Any]:
        """A dict for the record, the journal and lineage; ``from_json`` is its inverse."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        for name in ("attacks", "harmless", "attacks_as_plans", "guarded"):
            found[name] = None if found[name] is None else vars(found[name]).copy()
        found["utility"] = [vars(one).copy() for one in self.utility]
        found["letters"] = {name: list(pair) for name, pair in self.letters.items()}
        found |= {"families": list(self.families), "openings": list(self.openings)}
        return found | {"verdict": self.verdict.value, "settings": dict(self.settings)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ExamResult:
        """Read what ``to_json`` wrote. Raises KeyError, TypeError or ValueError if it is not that."""
        counts = {
            name: None if data[name] is None else PairedCounts(**data[name])
            for name in ("attacks", "harmless", "attacks_as_plans", "guarded")
        }
        read: dict[str, Any] = {
            **counts,
            "verdict": ExamVerdict(data["verdict"]),
            "utility": tuple(Utility(**one) for one in data["utility"]),
            "letters": {name: (own, other) for name, (own, other) in data.get("letters", {}).items()},
            "families": tuple(data.get("families", ())),
            "openings": tuple(data.get("openings", ())),
        }
        return cls(**{**data, **read})
