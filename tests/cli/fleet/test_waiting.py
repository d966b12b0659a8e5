"""Following an operation: what the server is asked, what outlasts a restart, and how the waiting ends."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from stub_admin import error, operation, write_access

from s3lora_serve.cli.fleet import admin_client, waiting

ADMITTING, LOADING = operation("admitting", to_digest=None), operation("loading", progress="probe")
DRAINING = operation("draining")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No pauses worth mentioning."""
    monkeypatch.setattr(waiting, "PAUSE", 0.01)
    monkeypatch.setattr(waiting, "BREATH", 0.0)
    monkeypatch.setattr(admin_client, "PAUSE", 0.001)


def test_each_question_names_the_step_that_was_seen(s3lora, stub):
    """What changed between two questions is then answered at once, not after the whole wait."""
    stub.steps = [ADMITTING, LOADING, DRAINING, operation()]
    assert s3lora("swap", "math", "demo://x").code == 0
    asked = [each.path.partition("?")[2] for each in stub.asked if each.method == "GET"]
    assert asked == [f"wait=10.0&seen={step}" for step in ("admitting", "loading", "draining")]


def test_a_server_that_restarts_is_waited_for(s3lora, stub, tmp_path):
    """Its file goes and comes back with another token; the operation is followed to its end."""
    file = tmp_path / ".s3lora" / "admin.json"
    stub.steps = [ADMITTING]

    def restart() -> None:
        while len(stub.asked) < 3:
            time.sleep(0.001)
        file.unlink()
        time.sleep(0.1)
        stub.token = "another"
        stub.steps = [LOADING, operation()]
        write_access(file, stub.url, "another")

    thread = threading.Thread(target=restart)
    thread.start()
    done = s3lora("swap", "math", "demo://x")
    thread.join()
    assert done.code == 0
    assert done.err.count("no answer any more, waiting for the server: no server runs here") == 1


def test_a_server_that_stays_away_ends_the_waiting(s3lora, stub, tmp_path, monkeypatch):
    """After a while the command gives up, says so, and how to find out what became of the operation."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.05)
    stub.steps = [ADMITTING]
    answer = stub.answer

    def then_gone(asked):
        if asked.method == "POST":
            stub.drop = 10**6
        return answer(asked)

    monkeypatch.setattr(stub, "answer", then_gone)
    done = s3lora("swap", "math", "demo://x")
    assert done.code == 1
    assert "what became of it: s3lora wait op-1" in done.err


# The interrupt may come between the opening of a file and the block that closes it.
@pytest.mark.filterwarnings("ignore:unclosed file <_io.BufferedReader:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_ends_the_waiting_and_not_the_operation(s3lora, stub):
    """Exit code 130, and how to follow the operation further; nothing is sent to stop it."""
    stub.steps = [ADMITTING]

    def interrupt() -> None:
        while len(stub.asked) < 3:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    done = s3lora("swap", "math", "demo://x")
    thread.join()
    assert done.code == 130
    assert "operation op-1 continues; follow it with: s3lora wait op-1" in done.err
    assert [asked.method for asked in stub.asked[1:]] == ["GET"] * (len(stub.asked) - 1)


def test_wait_follows_an_operation_that_began_elsewhere(s3lora, stub):
    """It ends with the operation's own exit code; --no-wait only looks."""
    stub.steps = [ADMITTING, LOADING, operation()]
    assert s3lora("wait", "op-1").code == 0
    stub.steps = [operation("failed")]
    assert s3lora("wait", "op-1").code == 1
    stub.steps = [LOADING]
    assert s3lora("wait", "op-1", "--no-wait").code == 0
    stub.routes["/admin/operations/op-2"] = (404, error("unknown_operation", "there is no operation 'op-2'"))
    assert s3lora("wait", "op-2").code == 1


def test_an_operation_that_outlasts_the_timeout_is_exit_code_1(s3lora, stub):
    """A script that waits in vain must not take it for done; the operation goes on."""
    stub.steps = [ADMITTING]
    done = s3lora("swap", "math", "demo://x", "--timeout", "0.05")
    assert done.code == 1
    assert done.out == "swap math: operation op-1 still runs (admitting)\n"


def test_no_wait_leaves_once_it_has_begun(s3lora, stub):
    """Exit code 0, the operation's id, and how to follow it; the server is asked nothing more."""
    stub.steps = [ADMITTING]
    done = s3lora("swap", "math", "demo://x", "--no-wait")
    assert (done.code, len(stub.asked)) == (0, 1)
    assert done.out == "swap math: operation op-1 has begun (admitting)\n"
    assert "s3lora wait op-1" in done.err


def test_without_a_terminal_a_long_step_says_how_far_it_is(s3lora, stub, monkeypatch):
    """Where that is a share, at most a line every some seconds."""
    steps = [operation("loading", progress=f"exam: {n} of 9 answers", fraction=n / 9) for n in (1, 2, 3)]
    stub.steps = [ADMITTING, *steps, operation()]
    assert s3lora("swap", "math", "demo://x").err.count("answers") == 0
    monkeypatch.setattr(waiting, "EVERY", 0.0)
    stub.steps = [ADMITTING, *steps, operation()]
    said = s3lora("swap", "math", "demo://x").err
    assert [line.split(": ", 1)[1] for line in said.splitlines() if "math: " in line] == [
        "admitting", "loading", "loading: exam: 2 of 9 answers", "loading: exam: 3 of 9 answers",
    ]  # fmt: skip
