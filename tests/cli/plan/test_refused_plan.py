"""`s3lora plan` when the server's guard withholds the plan."""

from __future__ import annotations

import json

import pytest
from refusing_server import REFUSAL, refusing_server

from planners.client.errors import PlannerAPIError
from s3lora_serve.cli.plan.plan_command import _say_refused

COMMAND = ("plan", "Steal it.", "--planner", "p", "--tools", "Search")


@pytest.fixture
def guarded(monkeypatch, tmp_path):
    """A server whose guard refuses everything, named by the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("S3LORA_API_KEY", raising=False)
    with refusing_server() as server:
        monkeypatch.setenv("S3LORA_BASE_URL", server.url)
        yield server


@pytest.mark.parametrize("in_stream", [False, True])
def test_a_refusal_ends_with_code_1_and_the_reason(s3lora, guarded, in_stream):
    """As every plan that there is not; nothing on stdout, and one request."""
    guarded.in_stream = in_stream
    done = s3lora(*COMMAND)
    assert (done.code, done.out, done.err) == (1, "", f"error: {REFUSAL}\n")
    assert len(guarded.asked) == 1


def test_a_script_is_told_the_part(s3lora, guarded):
    """With --json the error names its code and what of the request was refused."""
    done = s3lora(*COMMAND, "--json")
    error = {"code": "refused_by_guard", "message": REFUSAL, "hint": "", "part": "task"}
    assert (done.code, json.loads(done.out)) == (1, {"error": error})


def test_a_guard_that_failed_says_when_to_ask_again(s3lora, guarded):
    """After the second attempt that `s3lora plan` makes at a server that says so."""
    guarded.part, guarded.status, guarded.retry_after = None, 503, 1
    done = s3lora(*COMMAND)
    assert (done.code, done.err) == (1, f"error: {REFUSAL}\nhint:  try again in 1 s\n")
    assert len(guarded.asked) == 2


def test_a_planner_without_tools_names_the_option(capsys):
    """The server's word is of its field, which no one at a terminal can set."""
    _say_refused(PlannerAPIError("field 'tools' is required", status=422, param="tools", code="c"))
    assert "hint:  name them: --tools Name=description, or --tools-file FILE" in capsys.readouterr().err
