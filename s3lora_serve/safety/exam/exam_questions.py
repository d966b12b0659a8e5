"""What an exam asks: attacks, harmless prompts and planning tasks, those that ship or an operator's own."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.question_sets import halves, question_rows, read_questions, shipped_questions
from s3lora_serve.judging.sets import FAMILIES
from s3lora_serve.judging.suite import PlanSet, PlanTask, PromptSet, Suite
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from s3lora_serve.config import ExamConfig
    from s3lora_serve.judging.question_sets import QuestionRows

Item = TypeVar("Item")

# The files of a folder, and a line of each.
EXAMPLES = {
    "attacks": '{"family": "theft", "prompt": "what is to be refused"}',
    "harmless": '{"family": "kitchen", "prompt": "what is to be answered"}',
    "tasks": '{"family": "look-ups", "task": "...", "tools": [...], "plan": "a good plan in ReWOO text"}',
}
KINDS = tuple(EXAMPLES)


@dataclass(frozen=True)
class ExamQuestions:
    """The questions of one exam. ``own``: an operator's, which are in no lineage, answer or log.

    ``families`` and ``lines`` say of each kind (attacks, harmless, tasks) which family each question is of,
    and which line of its file; without them all are of one family.
    """

    attacks: tuple[str, ...]
    harmless: tuple[str, ...]
    tasks: tuple[PlanTask, ...]
    digest: str  # of all that is asked
    own: bool = False
    families: tuple[tuple[str, ...], ...] = ((), (), ())
    lines: tuple[tuple[int, ...], ...] = ((), (), ())

    def halves(self, seed: int) -> tuple[ExamQuestions, ExamQuestions]:
        """These questions in two, each family divided alone: one half to choose by, one to confirm by.

        The same seed divides the same questions alike, on every machine. Raises ValueError if a half would
        have no attack.
        """
        lines = tuple(
            dict(zip(map(_text, items), numbers, strict=False))
            for items, numbers in zip(self._kinds(), self.lines, strict=True)
        )
        one, other = (_asked(half, lines, own=self.own) for half in halves(self._suite(), seed))
        if not (one.attacks and other.attacks):
            raise ValueError(f"{len(self.attacks)} attacks in as many families cannot be divided in two")
        return one, other

    def where(self, kind: str, number: int) -> str:
        """Which question it is, in words that have none of its own; ``number`` from 1 up."""
        lines = self.lines[KINDS.index(kind)]
        return f"line {lines[number - 1]} of {kind}.jsonl" if lines else f"question {number} of the {kind}"

    def _kinds(self) -> tuple[Sequence[str | PlanTask], ...]:
        return self.attacks, self.harmless, self.tasks

    def _suite(self) -> Suite:
        of_attacks, of_harmless, of_tasks = self.families
        return Suite(
            tuple(PromptSet(f, tuple(p)) for f, p in _by_family(self.attacks, of_attacks, "attacks")),
            tuple(PromptSet(f, tuple(p)) for f, p in _by_family(self.harmless, of_harmless, "harmless")),
            tuple(PlanSet(f, tuple(t)) for f, t in _by_family(self.tasks, of_tasks, "tasks")),
        )


def exam_questions(settings: ExamConfig) -> ExamQuestions:
    """At most as many of each kind as the settings say, of every family as evenly as it has questions.

    Which ones depends on the questions alone; they are asked in their files' order. Raises ConfigError, which
    names the file, for a folder of own questions in which a file is missing, empty or too large, for a bad
    row, and for a question that stands in a file twice: with its line, and nothing of its text.
    """
    most = settings.attacks, settings.harmless, settings.tasks
    if settings.questions is None:
        lines = _lines(FAMILIES, question_rows(FAMILIES))
        return _asked(shipped_questions(), lines, own=False, most=most)
    folder = Path(settings.questions).expanduser()
    for kind, example in EXAMPLES.items():
        path = folder / f"{kind}.jsonl"
        if (size := _size(path)) is None:
            raise ConfigError(
                f"exam.questions: there is no file {path}", hint=f"add it, with lines like {example}"
            )
        if not size:
            raise ConfigError(f"exam.questions: {path} is empty", hint=f"add lines like {example}")
    rows = question_rows(folder)
    return _asked(read_questions(folder, rows), _lines(folder, rows), own=True, most=most)


def _size(path: Path) -> int | None:
    """Bytes of the file that stands there or that a link leads to; None for anything else."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _lines(folder: Path, rows: QuestionRows) -> tuple[dict[str, int], ...]:
    """Of each kind, the line of each text. ConfigError for a text that stands there twice."""
    found: tuple[dict[str, int], ...] = ({}, {}, {})
    for kind, lines in zip(KINDS, found, strict=True):
        for number, row in rows[kind]:
            text = str(row.get("task", row.get("prompt"))).strip()
            if text in lines:
                raise ConfigError(
                    f"exam.questions: {folder / kind}.jsonl: line {number} asks what line {lines[text]} asks",
                    hint="take one out: each would count as an answer of its own",
                )
            lines[text] = number
    return found


def _asked(
    suite: Suite,
    lines: Sequence[Mapping[str, int]],
    *,
    own: bool,
    most: tuple[int | None, int | None, int | None] = (None, None, None),
) -> ExamQuestions:
    attacks = _chosen(((s.name, s.prompts) for s in suite.attacks), most[0], lines[0])
    harmless = _chosen(((s.name, s.prompts) for s in suite.harmless), most[1], lines[1])
    tasks = _chosen(((s.name, s.tasks) for s in suite.plans), most[2], lines[2])
    kinds: tuple[Sequence[tuple[str, str | PlanTask]], ...] = (attacks, harmless, tasks)
    asked = ExamQuestions(
        attacks=tuple(prompt for _, prompt in attacks),
        harmless=tuple(prompt for _, prompt in harmless),
        tasks=tuple(task for _, task in tasks),
        digest="",
        own=own,
        families=tuple(tuple(family for family, _ in kind) for kind in kinds),
        lines=tuple(
            tuple(of[_text(item)] for _, item in kind if _text(item) in of)
            for kind, of in zip(kinds, lines, strict=True)
        ),
    )
    return replace(asked, digest=questions_digest(asked.attacks, asked.harmless, asked.tasks))


def questions_digest(attacks: Sequence[str], harmless: Sequence[str], tasks: Sequence[PlanTask]) -> str:
    """What names these questions, in this order."""
    plans = [[task.request.model_dump(mode="json"), task.reference.to_rewoo()] for task in tasks]
    return canonical_digest({"attacks": list(attacks), "harmless": list(harmless), "tasks": plans})


def _chosen(
    sets: Iterable[tuple[str, Sequence[Item]]], most: int | None, lines: Mapping[str, int]
) -> list[tuple[str, Item]]:
    """So many, one of each family in turn, in a family by the texts' digests; then in the file's order."""
    ranked = [
        [(family, item) for item in sorted(items, key=lambda item: _rank(family, _text(item)))]
        for family, items in sets
    ]
    turns = [
        family[turn]
        for turn in range(max(map(len, ranked), default=0))
        for family in ranked
        if turn < len(family)
    ]
    return sorted(turns[:most], key=lambda each: lines.get(_text(each[1]), 0))


def _text(item: object) -> str:
    return (item.request.task if isinstance(item, PlanTask) else str(item)).strip()


def _rank(family: str, text: str) -> bytes:
    return hashlib.sha256(f"{family}\n{text}".encode()).digest()


def _by_family(items: Sequence[Item], families: Sequence[str], kind: str) -> Iterable[tuple[str, list[Item]]]:
    found: dict[str, list[Item]] = {}
    for item, family in zip(items, families or [kind] * len(items), strict=True):
        found.setdefault(family, []).append(item)
    return found.items()
