"""Questions in families, and each family in two halves: what ships, for a guard's self-test and for exams.

A folder holds ``attacks.jsonl`` and ``harmless.jsonl``, a ``PromptRow`` a line, and ``tasks.jsonl``, a
``FamilyPlanRow`` a line. Each family becomes one set of the suite, so shares are means over families.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.plan_sets import PlanRow
from s3lora_serve.judging.sets import FAMILIES
from s3lora_serve.judging.suite import PlanSet, PromptSet, Suite
from s3lora_serve.judging.table_files import at_line, jsonl_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from s3lora_serve.judging.suite import PlanTask

    Row = tuple[int, dict[str, Any]]
    QuestionRows = Mapping[str, tuple[Row, ...]]

Item = TypeVar("Item")
MOST_ROWS, MOST_BYTES = 20_000, 32 * 2**20  # of one file; an exam asks 10,000 of a kind at most
FILES = ("attacks", "harmless", "tasks")
Halves = tuple[tuple[Item, ...], tuple[Item, ...]]


class PromptRow(BaseModel):
    """One line of a file of prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str = Field(min_length=1)
    prompt: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class FamilyPlanRow(PlanRow):
    """One line of a file of tasks with good plans."""

    family: str = Field(min_length=1)  # required here


@cache
def shipped_questions() -> Suite:
    """What ships: at least 200 attacks, 200 harmless prompts and 100 tasks with good plans, asked as chats.

    ``digest`` of the suite names all of it: figures of two versions must not be mixed.
    """
    return read_questions(FAMILIES)


def question_rows(folder: Path) -> QuestionRows:
    """The rows of the three files, each with the number of its line.

    Each file is read once: what is asked and where it stands are of the same text, though it may be written
    meanwhile. Raises ConfigError as ``jsonl_rows``, and for a file with more than ``MOST_BYTES`` or
    ``MOST_ROWS``.
    """
    found = {}
    for name in FILES:
        path = folder / f"{name}.jsonl"
        rows = tuple(islice(jsonl_rows(path, quoted=False, most=MOST_BYTES), MOST_ROWS + 1))
        if len(rows) > MOST_ROWS:
            raise ConfigError(
                f"{path} has more than {MOST_ROWS:,} questions", hint="an exam asks 10,000 of a kind at most"
            )
        found[name] = rows
    return found


def read_questions(folder: Path, rows: QuestionRows | None = None) -> Suite:
    """The suite of a folder, or of its rows, its families in the order of the files.

    Raises ConfigError for a file that is missing, empty or too large, for a family that is in two files, and
    for a row that is not as it must be: with its line and the field, and nothing of its text.
    """
    rows = question_rows(folder) if rows is None else rows
    _apart(folder, rows)
    attacks, harmless = (_prompts(folder / f"{name}.jsonl", rows[name]) for name in FILES[:2])
    return Suite(attacks, harmless, _plans(folder / "tasks.jsonl", rows["tasks"]))


def halves(suite: Suite, seed: int) -> tuple[Suite, Suite]:
    """The suite in two, such as the half that may be looked at and the half held out.

    Each set is divided alone, in sizes that differ by at most 1, and keeps its order. A set of one question
    is in one half only. The same seed divides the same questions alike, on every machine; another seed
    otherwise. Raises ValueError when nothing is left for a half.
    """
    prompts = [
        [_divided(asked.name, asked.prompts, asked.prompts, seed) for asked in sets]
        for sets in (suite.attacks, suite.harmless)
    ]
    plans = [_divided(s.name, s.tasks, [task.request.task for task in s.tasks], seed) for s in suite.plans]
    attacks, harmless = prompts

    def half(which: int) -> Suite:
        return replace(
            suite,
            attacks=_with_prompts(suite.attacks, [parts[which] for parts in attacks]),
            harmless=_with_prompts(suite.harmless, [parts[which] for parts in harmless]),
            plans=tuple(
                replace(whole, tasks=parts[which])
                for whole, parts in zip(suite.plans, plans, strict=True)
                if parts[which]
            ),
        )

    return half(0), half(1)


def _with_prompts(sets: Sequence[PromptSet], prompts: Sequence[tuple[str, ...]]) -> tuple[PromptSet, ...]:
    return tuple(replace(whole, prompts=part) for whole, part in zip(sets, prompts, strict=True) if part)


def _divided(name: str, items: Sequence[Item], texts: Sequence[str], seed: int) -> Halves[Item]:
    # By each text's own digest: a question that is added to a family moves few of the others.
    ranked = sorted(range(len(items)), key=lambda n: _digest(f"{seed}\n{name}\n{texts[n]}"))
    odd = _digest(f"{seed}\n{name}")[0] % 2 if len(items) % 2 else 0  # so that halves of all are alike, too
    first = set(ranked[: len(items) // 2 + odd])
    return (
        tuple(item for n, item in enumerate(items) if n in first),
        tuple(item for n, item in enumerate(items) if n not in first),
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _apart(folder: Path, rows: QuestionRows) -> None:
    """Raise ConfigError for a family that stands in two files."""
    first: dict[str, str] = {}
    for name in FILES:
        for number, row in rows[name]:
            family = row.get("family")
            if isinstance(family, str) and (other := first.setdefault(family, name)) != name:
                raise ConfigError(
                    f"{folder / name}.jsonl line {number} is of a family that {other}.jsonl has",
                    hint="name each family in one file only",
                )


def _prompts(path: Path, rows: Iterable[Row]) -> tuple[PromptSet, ...]:
    families: dict[str, list[str]] = {}
    for number, given in rows:
        with at_line(path, number, quoted=False):
            row = PromptRow.model_validate(given)
        families.setdefault(row.family, []).append(row.prompt)
    return tuple(PromptSet(family, tuple(prompts)) for family, prompts in _some(path, families).items())


def _plans(path: Path, rows: Iterable[Row]) -> tuple[PlanSet, ...]:
    families: dict[str, list[PlanTask]] = {}
    for number, given in rows:
        with at_line(path, number, quoted=False):
            row = FamilyPlanRow.model_validate(given)
            families.setdefault(row.family, []).append(row.read())
    return tuple(PlanSet(family, tuple(tasks)) for family, tasks in _some(path, families).items())


def _some(path: Path, families: dict[str, Item]) -> dict[str, Item]:
    if not families:
        raise ConfigError(f"{path} has no question", hint="write at least one, on a line of its own")
    return families
