"""The server's log: nothing that a record quotes can begin a line, or steer a terminal."""

from __future__ import annotations

import io
import json
import logging

import pytest

from s3lora_serve.fleet.log_context import OPERATION, REQUEST
from s3lora_serve.launch.log_format import JsonFormat, LogFormat

FORGED = "2026-01-01 00:00:00,000 INFO    s3lora_serve: swapped"


@pytest.fixture
def log(request):
    """A logger whose lines go into ``log.text``; with a format as parameter in that one."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(getattr(request, "param", LogFormat)())
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


@pytest.fixture
def context():
    """A request and an operation."""
    tokens = (REQUEST, REQUEST.set("r-1")), (OPERATION, OPERATION.set("op-2"))
    yield
    for variable, token in tokens:
        variable.reset(token)


def test_a_line_names_its_request_and_operation(log, context):
    """Before the message, which cannot forge them."""
    log.warning("[request=forged]: hello")
    assert log.text().endswith(" WARNING planners [request=r-1 operation=op-2]: [request=forged]: hello\n")


def test_what_belongs_to_a_record_follows_it(log):
    """Fields on its line, further lines indented below."""
    log.warning("two", extra={"lines": ["one\nforged", "\x1b"], "fields": {"a": 1, "b": None}})
    first, *below = log.text().splitlines()
    assert first.endswith("WARNING planners: two a=1 b=-")
    assert below == ["    one\\nforged", "    \\x1b"]


@pytest.mark.parametrize("log", [JsonFormat], indirect=True)
def test_json_is_one_object_a_line(log, context):
    """With the same, and the traceback as a field."""
    try:
        raise ValueError(f"bad\u2028\n{FORGED}")
    except ValueError:
        log.exception("it\nfailed", extra={"lines": ["why"], "fields": {"status": 500}})
    (line,) = log.text().splitlines()
    told = json.loads(line)
    assert told.pop("exception").endswith(f"ValueError: bad\u2028\n{FORGED}")
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "error", "logger": "planners", "message": "it\nfailed\nwhy",
        "request": "r-1", "operation": "op-2", "status": 500,
    }  # fmt: skip
