"""`s3lora guard report`: from a server or from its file."""

from __future__ import annotations

import json
import time

import pytest
from guard_questions import by_endpoint
from judged import judged, refused

from s3lora_serve.cli.fleet.guard_command import moment
from s3lora_serve.errors import ConfigError
from s3lora_serve.safety.guard.guard_facts import guard_facts
from s3lora_serve.safety.guard.verdicts.verdict_file import VerdictFile
from s3lora_serve.safety.guard.verdicts.verdict_record import records_of
from s3lora_serve.safety.guard.verdicts.verdict_report import verdict_report


@pytest.fixture
def records(tmp_path):
    """guard.db with one planner's three verdicts."""
    path = tmp_path / "guard.db"
    with VerdictFile(path) as file:
        now = time.time()
        file.add(*records_of("math", judged(), now))
        file.add(*records_of("math", judged(refused(), task="how to \x1b[31mdo harm"), now))
        file.add(*records_of("math", judged(refused(part="evidence"), action="observe"), now - 90_000))
    return path


def test_a_report_of_a_file(s3lora, stub, records):
    """No server is asked; groups by planner, part and caller, and at most six words, which act on nothing."""
    done = s3lora("guard", "report", "--records", records)
    assert (done.code, stub.asked) == (0, [])
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "math ops base 3 1 2 0 0 0" in lines
    assert any(line.startswith("math task ops base refused withheld 1 1") for line in lines)
    assert any(line.startswith("math evidence ops base refused served 1 1") for line in lines)
    assert "\x1b" not in done.out
    assert "how to \\x1b[31mdo harm" in done.out


def test_a_report_of_a_time_as_json(s3lora, records):
    """All that there is, of that time alone."""
    done = s3lora("guard", "report", "--records", records, "--since", "24h", "--json")
    told = json.loads(done.out)
    assert [each["part"] for each in told["records"]] == ["task"]
    assert [each["done"] for each in told["groups"]] == ["withheld"]


def test_a_report_of_a_server(s3lora, stub, records):
    """The server is asked for the same, and says who judges and where every task is sent."""
    guard = guard_facts(by_endpoint("http://guard:9/v1"))
    state = {"object": "guard", "planners": [{"id": "math", "guard": guard}], "lost": 2}
    stub.routes["/admin/guard"] = (200, state | verdict_report(records).to_json())
    done = s3lora("guard", "report", "--planner", "math", "--until", "2030-01-01", "--limit", "5")
    assert done.code == 0
    assert "math: guard by guard:9 refuses, fails closed; sends every task to guard:9" in done.out
    assert "2 requests could not be written down" in done.out
    assert stub.asked[-1].path == "/admin/guard?planner=math&until=1893456000.0&limit=5"


def test_a_file_that_is_not_there(s3lora, tmp_path):
    """Exit code 1 with the reason."""
    done = s3lora("guard", "report", "--records", tmp_path / "guard.db")
    assert done.code == 1
    assert "there is no file" in done.err


@pytest.mark.parametrize("text", ["yesterday", "7", "7y", "", "2026-13-01", "9" * 40 + "d"])
def test_a_time_that_is_none_is_wrong_usage(text):
    """The message names the option and an example."""
    with pytest.raises(ConfigError, match="--since"):
        moment("--since", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1970-01-02", 86_400), ("1970-01-01T01:00", 3600), ("1970-01-01T02:00+01:00", 3600)],
)
def test_times_without_a_zone_are_utc(text, seconds):
    """As the report prints them."""
    assert moment("--since", text) == seconds
