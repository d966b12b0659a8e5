"""Records as rows of the state file, and back: what cannot be read says which row it is."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.journal.agreement import OperationRow
from s3lora_serve.control.journal.entry import Entry
from s3lora_serve.control.operation import Operation
from s3lora_serve.fleet.planner_record import PlannerRecord
from s3lora_serve.storage.canonical_json import canonical_bytes, canonical_digest, excerpt, strict_loads

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ENTRY_COLUMNS = tuple(each.name for each in fields(Entry))
OPERATION_COLUMNS = ("id", "key", "fingerprint", "step", "started_at", "body")
PLANNER_COLUMNS = tuple(each.name for each in fields(PlannerRecord))
_NULLABLE = ("previous", "candidate")
_TEXTS = ("name", "active", "declared", *_NULLABLE)


def entry_row(entry: Entry) -> tuple[Any, ...]:
    """The values of ENTRY_COLUMNS."""
    return _row({**vars(entry), "details": _json(entry.details)}, ENTRY_COLUMNS)


def entry_of(row: Sequence[Any]) -> Entry:
    """The entry in a row of ENTRY_COLUMNS; its hash is not checked. Raises ValueError."""
    values = dict(zip(ENTRY_COLUMNS, row, strict=True))
    details = _mapping(values["details"], f"entry {values['seq']}: its details")
    return Entry(**{**values, "details": details})


def planner_row(record: PlannerRecord) -> tuple[Any, ...]:
    """The values of PLANNER_COLUMNS."""
    rollout = None if record.rollout is None else _json(record.rollout)
    return _row({**vars(record), "rollout": rollout}, PLANNER_COLUMNS)


def planner_of(row: Sequence[Any]) -> PlannerRecord:
    """The record in a row of PLANNER_COLUMNS. Raises ValueError."""
    values = dict(zip(PLANNER_COLUMNS, row, strict=True))
    if values["rollout"] is not None:
        values["rollout"] = _mapping(values["rollout"], f"planner {values['name']!r}: its rollout")
    for column in _TEXTS:
        value = values[column]
        if not (_is_text(value) or (value is None and column in _NULLABLE)):
            raise ValueError(f"planner {values['name']!r}: its {column} is no text: {excerpt(value)}")
    if not isinstance(generation := values["generation"], int):
        raise ValueError(f"planner {values['name']!r}: its generation is no number: {excerpt(generation)}")
    return PlannerRecord(**values)


def planners_or_why(rows: Iterable[Sequence[Any]]) -> dict[str, PlannerRecord | str]:
    """The planners by name; of a row that cannot be read the reason why."""
    return {str(row[0]): _planner_or_why(row) for row in rows}


def _planner_or_why(row: Sequence[Any]) -> PlannerRecord | str:
    """The record in a row, or why it cannot be read."""
    try:
        return planner_of(row)
    except ValueError as error:
        return str(error)


def operation_row(row: Sequence[Any]) -> OperationRow:
    """What there is to compare of a row of OPERATION_COLUMNS."""
    id_, key, fingerprint, step, started_at, body = row
    problem = ""
    try:
        operation = operation_of(body)
        if (operation.id, operation.order.key, operation.step.value) != (id_, key, step):
            problem = "its columns say other than its body"
    except ValueError as error:
        problem = str(error)
    values = [id_, key, fingerprint, step, started_at, body]
    return OperationRow(
        str(id_), str(step), canonical_digest([_json_value(value) for value in values]), problem
    )


def operation_json(operation: Operation) -> str:
    """The operation as it is stored."""
    return _json(operation.to_json())


def operation_of(body: object) -> Operation:
    """The operation that was stored so. Raises ValueError."""
    data = _mapping(body, "an operation")
    try:
        return Operation.from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"operation {data.get('id')!r}: {error!r}") from error


def _is_text(value: object) -> bool:
    """Whether it is text that SQLite takes back: other bytes are read as halves of surrogate pairs."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def _json_value(value: object) -> object:
    """A value of SQLite as JSON can say it: there are no bytes in that, and no infinity."""
    if isinstance(value, bytes):
        return value.hex()
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _row(values: Mapping[str, Any], columns: Sequence[str]) -> tuple[Any, ...]:
    return tuple(values[name] for name in columns)


def _json(value: Mapping[str, Any]) -> str:
    return canonical_bytes(dict(value)).decode()


def _mapping(text: object, what: str) -> dict[str, Any]:
    try:
        if not isinstance(text, str):
            raise ValueError(f"{type(text).__name__} in place of text")
        parsed = strict_loads(text.encode())
    except ValueError as error:
        raise ValueError(f"{what} cannot be read: {error}") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"{what} cannot be read: no JSON object")
    return parsed
