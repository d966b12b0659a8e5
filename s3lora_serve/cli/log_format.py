"""The server's log lines: whatever they quote, one record begins one line"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from s3lora_serve.cli.console import printable

if TYPE_CHECKING:
    from logging import LogRecord

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_INDENT = "    "


class LogFormat(logging.Formatter):
    """Writes control characters of a message out, line breaks too; tracebacks follow on indented lines.

    Messages quote sources and reasons of other people, who could otherwise write lines of their own.
    """

    def __init__(self) -> None:
        super().__init__(LINE)

    def format(self, record: LogRecord) -> str:
        """The record as one line, and below it the traceback if there is one."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        parts = [printable(self.formatMessage(record)).replace("\n", "\\n")]
        # Not the text that another handler may have left in the record: that is as it came.
        if record.exc_info:
            parts += _below(self.formatException(record.exc_info))
        if record.stack_info:
            parts += _below(self.formatStack(record.stack_info))
        return "\n".join(parts)


def _below(text: str) -> list[str]:
    # An exception's own text may have line breaks: indented, none of its lines passes for a record.
    return [_INDENT + printable(line) for line in text.split("\n")]
