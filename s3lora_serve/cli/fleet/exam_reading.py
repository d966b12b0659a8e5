"""An exam's result as a server tells it, read for tables and pages: rows of counts, and sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.operation_summary import short
from s3lora_serve.errors import ControlError
from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.exam_words import exam_words
from s3lora_serve.safety.exam.paired_score import decisive, rise_interval
from s3lora_serve.safety.exam.utility import DECIDING, measures

if TYPE_CHECKING:
    from collections.abc import Mapping

UNDECIDED = 3  # exit code
_RULE = ("max_attack_rise", "tolerated_rise", "level")  # what a result says of its settings
_CODES = {ExamVerdict.PASSED: 0, ExamVerdict.REFUSED: 1, ExamVerdict.UNDECIDED: UNDECIDED}


@dataclass(frozen=True)
class CountedRow:
    """What was asked, with the shares that complied, and the rise with its bounds."""

    name: str
    counts: PairedCounts
    interval: tuple[float, float]
    decides: bool = False


@dataclass(frozen=True)
class ExamReading:
    """A result, whose it is, and how it is told."""

    result: ExamResult
    planner: str
    revision: str
    stale: bool = False
    tries: int = 1
    kept: bool = False  # it was not asked now

    @classmethod
    def of(cls, facts: Mapping[str, Any], planner: str, revision: str, *, kept: bool = False) -> ExamReading:
        """Of what a server tells. Raises ControlError if it is of another version."""
        told = {name: value for name, value in facts.items() if name not in ("stale", "tries")}
        try:
            result = ExamResult.from_json(told)
            if result.attacks.asked:
                [float(result.settings[name]) for name in _RULE]
        except (KeyError, TypeError, ValueError) as error:
            raise ControlError(
                f"the server's exam cannot be read: {error}", hint="it may be of another version"
            ) from error
        return cls(result, planner, revision, bool(facts.get("stale")), int(facts.get("tries", 1)), kept)

    @property
    def exit_code(self) -> int:
        """0 passed, 1 refused, 3 undecided or stale."""
        return UNDECIDED if self.stale else _CODES[self.result.verdict]

    @property
    def words(self) -> str:
        """``passed on the public prompts``."""
        return exam_words({**self.result.to_json(), "stale": self.stale})

    @property
    def against(self) -> str:
        """What it was compared with."""
        return "the base model" if self.result.against == "base" else f"revision {self.other}"

    @property
    def other(self) -> str:
        """The same in a word, for the heads of columns."""
        return short(self.result.against)

    @property
    def max_rise(self) -> float:
        """Refused if a rise above it is proved."""
        return float(self.result.settings["max_attack_rise"])

    @property
    def tolerated(self) -> float:
        """Passed if a rise by it or more is excluded."""
        return float(self.result.settings["tolerated_rise"])

    @property
    def confidence(self) -> float:
        """Of either proof, one-sided."""
        return 1 - float(self.result.settings["level"])

    def rows(self) -> list[CountedRow]:
        """What was asked in pairs, the attacks that decide first."""
        result = self.result
        if not result.attacks.asked:
            return []
        asked = [
            ("attacks, as chats", result.attacks),
            ("attacks, as planning tasks", result.attacks_as_plans),
            ("attacks that a guard by the base lets through", result.guarded),
            ("harmless prompts, as chats", result.harmless),
        ]
        return [
            CountedRow(name, counts, rise_interval(counts, self.confidence), decides=not number)
            for number, (name, counts) in enumerate(asked)
            if counts is not None and counts.asked
        ]

    def families(self) -> list[CountedRow]:
        """The attacks as chats by family, the largest rise first; none of own questions."""
        own, other = self.result.letters.get("attacks", ("", ""))
        by_family: dict[str, list[tuple[str, str]]] = {}
        for family, *pair in zip(self.result.families, own, other, strict=False):
            by_family.setdefault(family, []).append((pair[0], pair[1]))
        rows = []
        for name, pairs in by_family.items():
            counts = PairedCounts.of(*("".join(letters) for letters in zip(*pairs, strict=True)))
            rows.append(CountedRow(name, counts, rise_interval(counts, self.confidence)))
        return sorted(rows, key=lambda row: (-row.counts.rise, row.name))

    def risen(self) -> list[tuple[int, str, str]]:
        """Number, family and first words of each answer to an attack that only the revision complied with."""
        result = self.result
        return [
            (
                number,
                result.families[number - 1] if number <= len(result.families) else "–",
                result.openings[place] if place < len(result.openings) else "–",
            )
            for place, number in enumerate(result.risen)
        ]

    def figures(self) -> tuple[list[str], list[list[str]]]:
        """Utility as the heads of a table and a row a figure: its name, the candidate's, then each other's
        that was asked, with how much worse the candidate's is.
        """
        utility = self.result.utility
        others = [
            (name, field)
            for name, field in ((self.other, "reference"), ("unpruned", "unpruned"))
            if any(getattr(one, field) is not None for one in utility)
        ]
        heads = ["it", *(head for name, _ in others for head in (name, "worse by"))]
        rows = []
        for one in utility:
            row = [one.name, f"{one.candidate:.3f}"]
            for _, field in others:
                other = getattr(one, field)
                row += ["–", "–"] if other is None else [f"{other:.3f}", percent(one.worse_than(other))]
            rows.append(row)
        return heads, rows

    def utility_rule(self) -> str:
        """What these figures may refuse for, in a sentence; empty where none was asked."""
        if not self.result.utility:
            return ""
        if not (whose := measures(self.result.utility, self.result.against)):
            base = self.result.against == "base"
            why = "a base model is a poor planner" if base else "nothing else was asked the tasks"
            return f"utility decides nothing here: {why}"
        loss = percent(float(self.result.settings.get("max_utility_loss", 0.0)))
        names, others = ", ".join(DECIDING), " or ".join(whose.values())
        return f"refused, too, if one of {names} is more than {loss} worse than {others}"

    def rules(self) -> list[str]:
        """The two proofs, each in a sentence with what came of it; none where nothing was asked."""
        if not self.result.attacks.asked:
            return []
        alpha = 1 - self.confidence
        refusal, passing = self.result.p_rise, self.result.p_tolerated
        return [
            f"refused if attack success is proved to rise by more than {points(self.max_rise)}:"
            f" {_proof(refusal, alpha)}",
            f"passed if a rise by {points(self.tolerated)} or more is excluded: {_proof(passing, alpha)}",
        ]

    def outlook(self) -> str:
        """What would decide, of one that is undecided; empty for others."""
        if self.result.verdict is not ExamVerdict.UNDECIDED or not self.result.attacks.asked:
            return ""
        more = decisive(self.result.attacks, self.max_rise, self.tolerated, self.confidence)
        if more is None:
            return "more attacks may decide; how many cannot be told from these counts"
        return (
            f"about {more.prompts:,} attacks would decide, if answered as these"
            f" {self.result.attacks.asked:,}: {more.verdict} (exam.attacks)"
        )


def points(share: float, *, signed: bool = False) -> str:
    """A difference of shares: ``3 points``, ``+12.5 points``."""
    value = f"{100 * share:{'+' if signed else ''}.1f}".removesuffix(".0").replace("-", "\N{MINUS SIGN}")
    bare = value.lstrip("+\N{MINUS SIGN}")
    return f"{bare if bare == '0' else value} point{'' if bare == '1' else 's'}"


def rise_cell(rise: float, bounds: tuple[float, float]) -> str:
    """``+12.5 [+8, +16]``, in points."""
    low, high = (f"{100 * bound:+.0f}".replace("-", "\N{MINUS SIGN}") for bound in bounds)
    return f"{points(rise, signed=True).partition(' ')[0]} [{low}, {high}]"


def percent(share: float) -> str:
    """``12 %``."""
    return f"{100 * share:.0f} %"


def _proof(p: float, alpha: float) -> str:
    said = "proved" if p <= alpha else "not proved"
    return f"{said} (p {_p(p)}, {alpha:.2g} or less proves it)"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
