"""Rows of the files that prompts and plans are read from, each with its place for messages."""

from __future__ import annotations

import csv
import io
import json
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from planners.syntax import PlanSyntaxError
from s3lora_serve.errors import ConfigError
from s3lora_serve.storage.canonical_json import strict_loads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Item = TypeVar("Item")

_MOST_TOLD = 300  # characters of a cause, which may quote a line
# Kinds of pydantic's errors whose words are ours, a validator's, and may quote what it was given.
_QUOTING = {"value_error", "assertion_error", "union_tag_invalid"}


class RowFault(ValueError):
    """A row that is not as it must be. ``unquoted`` says so with nothing of it."""

    def __init__(self, message: str, unquoted: str) -> None:
        super().__init__(message)
        self.unquoted = unquoted


def read_text(path: Path, most: int | None = None) -> str:
    """The file's text, UTF-8 with or without a mark.

    Raises ConfigError for none, for another encoding, and for more than ``most`` bytes, of which no more are
    read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(-1 if most is None else most + 1)
        if most is not None and len(raw) > most:
            raise ConfigError(
                f"{path} has more than {most:,} bytes", hint="leave out what is asked in other words, too"
            )
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}", hint="save it as UTF-8") from error


def jsonl_rows(
    path: Path, *, quoted: bool = True, most: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with the number of its line; empty lines are skipped. ConfigError for other lines, and as
    ``read_text`` for more than ``most`` bytes.

    Where they are not ``quoted``, nothing of a line is in its error.
    """
    for number, line in enumerate(read_text(path, most).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = strict_loads(line.encode())
        except ValueError as error:
            why = _shortened(str(error)) if quoted else _not_json(error)
            raise ConfigError(f"{path} line {number} is not JSON: {why}") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path} line {number} is not a JSON object", hint="write one object a line")
        yield number, row


@contextmanager
def at_line(path: Path, number: int, *, quoted: bool = True) -> Iterator[None]:
    """ConfigError with the line for a ValueError inside; of pydantic's it tells the first, with the field.

    Where they are not ``quoted``, nothing of the line is in it: only which field it is, and what kind of
    fault. So an operator's own questions reach no log, operation or journal by their faults.
    """
    try:
        yield
    except ValueError as error:
        why = _told(error) if quoted else _unquoted(error)
        raise ConfigError(f"{path} line {number}: {why}") from None


def _told(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        return _shortened(f"{_place(first['loc'])}: {first['msg']}")
    return _shortened(str(error))


def _unquoted(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False)[0]
        kind, place = first["type"], first["loc"]
        if kind == "extra_forbidden":  # the name of the field is the line's own
            within = f" of {_place(place[:-1])}" if place[:-1] else ""
            return f"a field{within} is not known"
        return f"{_place(place)}: {'is not as it must be' if kind in _QUOTING else first['msg']}"
    if isinstance(error, PlanSyntaxError):
        return f"line {error.line} of the plan is not ReWOO text"
    return error.unquoted if isinstance(error, RowFault) else "it is not as it must be"


def _not_json(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return "a key that stands twice, a number that is none, or too much nesting"


def _place(loc: Sequence[int | str]) -> str:
    return ".".join(str(part) for part in loc)


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_TOLD else f"{text[: _MOST_TOLD - 3]}..."


def csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each row with the number of its last line. ConfigError for a row longer or shorter than the head."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                columns = len(reader.fieldnames or ())
                raise ConfigError(f"{path} line {reader.line_num} does not have {columns} columns")
            yield reader.line_num, row
    except csv.Error as error:
        raise ConfigError(f"{path} line {reader.line_num} is not CSV: {error}") from error


def sampled(items: Sequence[Item], limit: int | None, seed: int) -> tuple[Item, ...]:
    """At most ``limit`` of the items, in their order; which ones depends on the seed and on their number."""
    if limit is None or limit >= len(items):
        return tuple(items)
    chosen = sorted(random.Random(seed).sample(range(len(items)), limit))
    return tuple(items[n] for n in chosen)
