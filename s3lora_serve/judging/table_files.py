"""Rows of the files that prompts and plans are read from, each with its place for messages."""

from __future__ import annotations

import csv
import io
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from s3lora_serve.errors import ConfigError
from s3lora_serve.storage.canonical_json import strict_loads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Item = TypeVar("Item")


def read_text(path: Path) -> str:
    """The file's text, UTF-8 with or without a mark. Raises ConfigError for none and for another encoding."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}", hint="check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}", hint="save it as UTF-8") from error


def jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with the number of its line; empty lines are skipped. ConfigError for other lines."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = strict_loads(line.encode())
        except ValueError as error:
            raise ConfigError(f"{path} line {number} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path} line {number} is not a JSON object", hint="write one object a line")
        yield number, row


@contextmanager
def at_line(path: Path, number: int) -> Iterator[None]:
    """ConfigError with the line for a ValueError inside; of pydantic's it tells the first, with the field."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path} line {number}: {where}: {first['msg']}") from error
    except ValueError as error:
        raise ConfigError(f"{path} line {number}: {error}") from error


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
