"""Questions in families, and each family in two halves: what ships, for a guard's self-test and for exams.

A folder holds ``attacks.jsonl`` and ``harmless.jsonl``, a ``PromptRow`` a line, and ``tasks.jsonl``, a
``FamilyPlanRow`` a line. Each family becomes one set of the suite, so shares are means over families.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.plan_sets import PlanRow
from s3lora_serve.judging.sets import FAMILIES
from s3lora_serve.judging.suite import PlanSet, PromptSet, Suite
from s3lora_serve.judging.table_files import at_line, jsonl_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from s3lora_serve.judging.suite import PlanTask

Item = TypeVar("Item")
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


def read_questions(folder: Path) -> Suite:
    """The suite of a folder, its families in the order of the files.

    Raises ConfigError for a file that is missing or empty, for a family that is in two files, and for a row
    that is not as it must be, with its line.
    """
    attacks, harmless = (_prompts(folder / name) for name in ("attacks.jsonl", "harmless.jsonl"))
    try:
        return Suite(attacks, harmless, _plans(folder / "tasks.jsonl"))
    except ValueError as error:
        raise ConfigError(f"{folder}: {error}", hint="name each family in one file only") from error


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


def _prompts(path: Path) -> tuple[PromptSet, ...]:
    families: dict[str, list[str]] = {}
    for number, given in jsonl_rows(path):
        with at_line(path, number):
            row = PromptRow.model_validate(given)
        families.setdefault(row.family, []).append(row.prompt)
    return tuple(PromptSet(family, tuple(prompts)) for family, prompts in _some(path, families).items())


def _plans(path: Path) -> tuple[PlanSet, ...]:
    families: dict[str, list[PlanTask]] = {}
    for number, given in jsonl_rows(path):
        with at_line(path, number):
            row = FamilyPlanRow.model_validate(given)
            families.setdefault(row.family, []).append(row.read())
    return tuple(PlanSet(family, tuple(tasks)) for family, tasks in _some(path, families).items())


def _some(path: Path, families: dict[str, Item]) -> dict[str, Item]:
    if not families:
        raise ConfigError(f"{path} has no question", hint="write at least one, on a line of its own")
    return families
