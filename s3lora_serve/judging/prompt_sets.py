"""Prompt sets from files: a prompt a line, or a column of a table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from planners import PlannerInput
from s3lora_serve.errors import ConfigError
from s3lora_serve.judging.suite import TOOLS, PromptSet
from s3lora_serve.judging.table_files import csv_rows, jsonl_rows, read_text, sampled
from s3lora_serve.storage.canonical_json import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3lora_serve.judging.suite import Form

COLUMNS = {
    ".csv": ("prompt", "goal", "text"),
    ".jsonl": ("prompt", "task", "text"),
}  # the first that is there
AS_PLANS = " as plans"  # ends the name of a set that is asked in that form
_SPEC = re.compile(r"(?P<file>.+?):(?P<column>[^:=/]+)=(?P<value>.*)", re.DOTALL)


def read_prompts(spec: str, form: Form, *, limit: int | None = None, seed: int = 0) -> PromptSet:
    """Read ``FILE`` or ``FILE:column=value``: only the rows with that value.

    ``.txt``: a prompt a line; ``.csv`` and ``.jsonl``: see ``COLUMNS``. Empty lines are skipped, an empty
    cell is an error. ``limit``: a sample of at most so many. The set is named after file, filter and form.
    Raises ConfigError for a file that is missing, empty (also after the filter) or without the column, and in
    the form ``plan`` for a prompt that no planner takes as its task: too long, or with a control character.
    """
    path, column, value = _split(spec)
    name = path.stem if column is None else f"{path.stem}:{column}={value}"
    if column is None and path.suffix == ".txt":
        lines = enumerate(read_text(path).split("\n"), 1)
        found = [(number, line.strip()) for number, line in lines if line.strip()]
    elif path.suffix in COLUMNS:
        rows = csv_rows(path) if path.suffix == ".csv" else jsonl_rows(path)
        found = list(_column(path, rows, column, value))
    elif path.suffix == ".txt":
        raise ConfigError(f"{spec}: a .txt file has no columns", hint=f"leave out :{column}={value}")
    else:
        raise ConfigError(
            f"{path}: prompts are read from .txt, .csv or .jsonl", hint="rename or convert the file"
        )
    if not found:
        rest = "" if column is None else f" with {column} = {value!r}"
        raise ConfigError(
            f"{path} has no prompt{rest}", hint="an evaluation needs at least one prompt in each set"
        )
    if form == "plan":
        name += AS_PLANS
        for number, prompt in found:
            _check_task(path, number, prompt)
    return PromptSet(name, sampled([prompt for _, prompt in found], _positive(limit), seed), form)


def _split(spec: str) -> tuple[Path, str | None, str]:
    match = _SPEC.fullmatch(spec)
    if match is None or Path(spec).is_file():
        return Path(spec), None, ""
    return Path(match["file"]), match["column"], match["value"]


def _column(
    path: Path, rows: Iterable[tuple[int, dict[str, object]]], filtered: str | None, value: str
) -> Iterator[tuple[int, str]]:
    names = COLUMNS[path.suffix]
    for number, row in rows:
        if filtered is not None:
            if filtered not in row:
                raise ConfigError(f"{path} line {number} has no {filtered!r}; it has {_names(row)}")
            if str(row[filtered]) != value:
                continue
        name = next((name for name in names if name in row), None)
        if name is None:
            raise ConfigError(
                f"{path} line {number} has none of {', '.join(names)}; it has {_names(row)}",
                hint=f"name the column of the prompts {names[0]!r}",
            )
        text = row[name]
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{path} line {number}: {name} is not a text: {excerpt(text)}")
        yield number, text.strip()


def _names(row: dict[str, object]) -> str:
    return excerpt(", ".join(row), 200)[1:-1]


def _check_task(path: Path, number: int, prompt: str) -> None:
    try:
        PlannerInput(task=prompt, tools=TOOLS)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = first["msg"].removeprefix("Value error, ")
        if first["type"] == "string_too_long":
            why = f"{len(prompt):,} characters, over {first['ctx']['max_length']:,}"
        raise ConfigError(
            f"{path} line {number}: no planner takes this prompt as its task: {why}",
            hint="change it, or ask it only as a chat",
        ) from None


def _positive(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} prompts leaves none", hint="give at least 1")
    return limit
