"""Log lines: each record begins exactly one line, whatever it quotes; vLLM's are hidden unless asked for"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING

from s3lora_serve.errors import ConfigError
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from logging import LogRecord

LINE = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
LEVELS = ("debug", "info", "warning", "error")
_INDENT = "    "


class LogFormat(logging.Formatter):
    """Writes control characters of a message out, line breaks too; tracebacks follow on indented lines.

    Messages quote sources and reasons of other people, who could otherwise forge log lines.
    """

    def __init__(self) -> None:
        super().__init__(LINE)

    def format(self, record: LogRecord) -> str:
        """The record as one line, and below it the traceback if there is one."""
        record.message = record.getMessage()
        record.asctime = self.formatTime(record)
        parts = [printable(self.formatMessage(record), one_line=True)]
        # Not the text that another handler may have left in the record: that is as it came.
        if record.exc_info:
            parts += _below(self.formatException(record.exc_info))
        if record.stack_info:
            parts += _below(self.formatStack(record.stack_info))
        return "\n".join(parts)


def set_logging(level: str) -> None:
    """Let our loggers speak from this level on and vLLM's only of errors; call it before vLLM is imported.

    Raises ConfigError for a level that is not one of ``LEVELS``.
    """
    if level not in LEVELS:
        raise ConfigError(f"--log-level {level!r} is not known", hint=f"use {', '.join(LEVELS)}")
    ours = getattr(logging, level.upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormat())
    logging.basicConfig(handlers=[handler], level=max(ours, logging.WARNING))
    for name in ("s3lora_serve", "planners", "uvicorn.access"):
        logging.getLogger(name).setLevel(ours)
    # vLLM says a hundred lines at info, and warns of what does not matter here. It reads the variable when it
    # is imported, here and in its own processes; before that its loggers are like any other.
    quiet = "DEBUG" if level == "debug" else "ERROR"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", quiet)
    logging.getLogger("vllm").setLevel(quiet)
    if level != "debug":
        # For authors of vLLM and torch, not for operators; the second comes when vLLM's processes have ended.
        warnings.simplefilter("ignore", FutureWarning)
        unwanted = "ignore::FutureWarning,ignore::UserWarning:multiprocessing.resource_tracker"
        os.environ.setdefault("PYTHONWARNINGS", unwanted)


def _below(text: str) -> list[str]:
    # An exception's own text may have line breaks: indented, none of its lines passes for a record.
    return [_INDENT + printable(line) for line in text.split("\n")]
