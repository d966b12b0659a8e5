"""The server's log: nothing that a record quotes can begin a line, or steer a terminal."""

from __future__ import annotations

import io
import logging

import pytest

from s3lora_serve.launch.log_format import LogFormat

FORGED = "2026-01-01 00:00:00,000 INFO    s3lora_serve: swapped"


@pytest.fixture
def log():
    """A logger whose lines go into ``log.text``."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(LogFormat())
    logger = logging.Logger("planners")
    logger.addHandler(handler)
    logger.text = text.getvalue
    return logger


def test_a_record_is_one_line(log):
    """Line breaks, NUL and escapes in a source or a reason are written out."""
    log.warning("swap of %r: %s", "math", f"no\x00 \x1b[2J \r\u202e\u2028\n{FORGED}")
    (line,) = log.text().splitlines()
    assert line.endswith(f"WARNING planners: swap of 'math': no\\x00 \\x1b[2J \\r\\u202e\\u2028\\n{FORGED}")


def test_a_traceback_keeps_its_lines_and_forges_none(log):
    """It can be read as always; what its exception quotes is indented like the rest of it, and printable."""
    try:
        raise ValueError(f"bad\x1b[2J\n{FORGED}")
    except ValueError:
        log.exception("failed")
    first, *below = log.text().splitlines()
    assert first.endswith("ERROR   planners: failed")
    assert below[0] == "    Traceback (most recent call last):"
    assert below[-2:] == ["    ValueError: bad\\x1b[2J", f"    {FORGED}"]
    assert [line for line in below if not line.startswith("    ")] == []


def test_what_another_handler_left_is_not_trusted(log):
    """The text of a traceback is kept in the record by the handler that formats it first, as it came."""
    earlier = logging.StreamHandler(io.StringIO())
    log.handlers.insert(0, earlier)
    try:
        raise ValueError(f"bad\n{FORGED}")
    except ValueError:
        log.exception("failed", stack_info=True)
    assert FORGED not in log.text().splitlines()
