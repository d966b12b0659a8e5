"""Log lines as text or JSON: each record begins exactly one line, whatever it quotes"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from s3lora_serve.fleet.log_context import log_context
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import LogRecord

LINE = "%(asctime)s %(levelname)-7s %(name)s%(context)s: %(message)s"
_INDENT = "    "


class LogFormat(logging.Formatter):
    """Text. Control characters of a message are written out, line breaks too.

    Messages quote sources and reasons of other people, who could otherwise forge log lines. What follows on
    indented lines cannot pass for a record: tracebacks, and the ``lines`` of a record that has some. Its
    ``fields`` follow the message, as ``name=value``. Request and operation stand where no message can.
    """

    def __init__(self) -> None:
        super().__init__(LINE)

    def format(self, record: LogRecord) -> str:
        """The record as one line, and below it what belongs below."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        context = " ".join(f"{name}={value}" for name, value in log_context().items())
        record.context = f" [{context}]" if context else ""
        fields = "".join(f" {name}={_shown(value)}" for name, value in _fields(record).items())
        parts = [printable(self.formatMessage(record) + fields, one_line=True)]
        parts += (_INDENT + printable(line, one_line=True) for line in _lines(record))
        # Not the text that another handler may have left in the record: that is as it came.
        if record.exc_info:
            parts += _below(self.formatException(record.exc_info))
        if record.stack_info:
            parts += _below(self.formatStack(record.stack_info))
        return "\n".join(parts)


class JsonFormat(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, request, operation, the record's fields.

    A traceback is the field ``exception``.
    """

    def format(self, record: LogRecord) -> str:
        """The record as one line of ASCII."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": "\n".join((record.getMessage(), *_lines(record))),
            **log_context(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=str)


def _fields(record: LogRecord) -> Mapping[str, Any]:
    """What the caller gave as ``extra={"fields": ...}``."""
    return getattr(record, "fields", {})


def _lines(record: LogRecord) -> tuple[str, ...]:
    """What the caller gave as ``extra={"lines": ...}``."""
    return tuple(getattr(record, "lines", ()))


def _shown(value: Any) -> str:
    return "-" if value is None or value == "" else str(value)


def _below(text: str) -> list[str]:
    # An exception's own text may have line breaks: indented, none of its lines passes for a record.
    return [_INDENT + printable(line) for line in text.split("\n")]
