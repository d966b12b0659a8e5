"""What every command has in common: help, version, exit codes, clean messages."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from contextlib import suppress

import pytest
from rich.console import Console
from rich.text import Text
from threaded_server import wait_until
from typer.main import get_command

from s3lora_serve import __version__
from s3lora_serve.cli import main
from s3lora_serve.errors import ConfigError, FormatError
from s3lora_serve.launch import serve
from s3lora_serve.terminal import console


def test_help_names_the_operators_commands(s3lora):
    """`s3lora --help` lists what an operator can do, and what the exit codes mean."""
    done = s3lora("--help")
    assert done.code == 0
    adapters = ("inspect", "prune", "verify", "config")
    fleet = ("swap", "rollback", "canary", "promote", "wait", "apply", "status", "history", "audit")
    assert [c for c in (*adapters, *fleet) if f" {c} " not in done.out] == []
    assert "Exit codes: 0 done; 1 the adapter was refused" in done.out


@pytest.mark.parametrize(
    "command", [["inspect"], ["prune"], ["verify"], ["config", "check"], ["status"], ["history"], ["audit"]]
)
def test_every_command_explains_itself(s3lora, command):
    """Each command has a help text with its exit codes."""
    done = s3lora(*command, "--help")
    assert done.code == 0
    assert "Exit codes" in done.out


def test_brackets_in_help_texts_are_shown():
    """Help texts are markup: what stands in brackets must not be taken for a style and left out."""
    kept = []

    def check(command, name: str) -> None:
        texts = [command.help, command.epilog, *(getattr(p, "help", None) for p in command.params)]
        for text in filter(None, texts):
            shown = Text.from_markup(text).plain
            assert shown == text.replace("\\[", "["), f"{name}: {text}"
            kept.append("[@revision]" in shown)
        for child, its in getattr(command, "commands", {}).items():
            check(its, f"{name} {child}")

    check(get_command(main.app), "s3lora")
    check(get_command(serve.app), "s3lora-serve")
    assert any(kept)


@pytest.mark.parametrize("command", ["inspect", "prune", "reference"])
def test_a_revision_can_be_found_in_the_help(s3lora, command):
    """How a source is pinned."""
    assert "hf://org/name[@revision]" in s3lora(command, "--help").out


@pytest.mark.parametrize("command", ["swap", "rollback", "canary", "promote", "wait", "apply"])
def test_every_order_says_how_it_can_end(s3lora, command):
    """Scripts go by the exit code: what Ctrl-C and --timeout leave is said, too."""
    done = s3lora(command, "--help")
    assert done.code == 0
    said = " ".join(done.out.split())  # it may be wrapped
    assert "Exit codes: 0 done (with --no-wait: begun); 1 refused, failed, undone" in said
    assert "130 Ctrl-C, the operation continues" in said


@pytest.mark.parametrize("command", ["exam", "wait"])
def test_an_undecided_exam_has_its_own_code(s3lora, command):
    """A script tells it apart from a refusal, whichever of both commands waited."""
    assert "3 " in s3lora(command, "--help").out
    assert "undecided" in s3lora(command, "--help").out


def test_version(s3lora, s3lora_serve):
    """Both commands say which version they are."""
    assert s3lora("--version").out == f"s3lora-serve {__version__}\n"
    assert s3lora_serve("--version").out == f"s3lora-serve {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["inspct"], ["inspect"], ["inspect", "x", "--tpo", "3"], ["verify", "x"]]
)
def test_wrong_usage_is_exit_code_2(s3lora, arguments):
    """A mistyped command or option, or one that is missing, is told apart from a refused adapter."""
    assert s3lora(*arguments).code == 2


def test_an_error_is_one_message_with_its_hint(capfd, monkeypatch):
    """A known error prints what is wrong and what to do on stderr, and no traceback; stdout stays empty."""
    monkeypatch.setattr(console, "err", Console(stderr=True, width=40))

    def fail():
        raise FormatError("x.safetensors is 3 bytes long", hint="fetch it again")

    with pytest.raises(SystemExit) as left:
        console.run(fail)
    assert left.value.code == 1
    assert capfd.readouterr() == (
        "",
        "error: x.safetensors is 3 bytes long\nhint:  fetch it again\n",
    )


def test_a_configuration_error_is_exit_code_2():
    """What the caller wrote wrongly differs from what was found in an adapter."""

    def fail():
        raise ConfigError("no")

    with pytest.raises(SystemExit) as left:
        console.run(fail)
    assert left.value.code == 2


def test_a_defect_of_ours_keeps_its_traceback():
    """An unexpected exception is not dressed up as a user's mistake."""

    def fail():
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        console.run(fail)


def test_an_adapters_text_cannot_steer_the_terminal(capfd, monkeypatch):
    """Escape sequences and bidirectional marks in a message are written out, not obeyed."""
    monkeypatch.setattr(console, "err", Console(stderr=True, width=200))
    console.say_error(FormatError("module '\x1b[2J\u202egpj' [bold]x[/bold]"))
    assert capfd.readouterr().err == "error: module '\\x1b[2J\\u202egpj' [bold]x[/bold]\n"


def test_stages_without_a_terminal_are_lines(capfd, monkeypatch):
    """In a log, a stage that takes long is announced once, and a finished task leaves note and seconds."""
    monkeypatch.setattr(console, "err", Console(stderr=True, width=200, force_terminal=False))
    monkeypatch.setattr(console, "ANNOUNCE_AFTER", 0.01)
    lines = []

    def said():
        lines.extend(capfd.readouterr().err.splitlines())
        return lines

    with console.Stages("engine", keep=True) as stage:
        stage("importing")
        wait_until(said)
        stage("importing", 0.5)
        monkeypatch.setattr(console, "ANNOUNCE_AFTER", 60)
        stage("quick", 0.5)
        stage.note = "ready"
    said()
    assert lines[0] == "  engine: importing ..."
    assert lines[1].startswith("✓ engine       ready  ")
    assert len(lines) == 2


def test_a_failed_task_leaves_no_tick(capfd, monkeypatch):
    """Only what succeeded is marked as done."""
    monkeypatch.setattr(console, "err", Console(stderr=True, width=200, force_terminal=False))
    with pytest.raises(FormatError), console.Stages("admit", keep=True):
        raise FormatError("no")
    assert capfd.readouterr().err == ""


def test_a_command_that_is_ended_leaves_no_temporary_folder(tmp_path):
    """SIGTERM unwinds like an error, with the usual exit code; afterwards signals are as they were."""
    before = signal.getsignal(signal.SIGTERM)

    def work():
        with tempfile.TemporaryDirectory(dir=tmp_path):
            assert len(list(tmp_path.iterdir())) == 1
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    with pytest.raises(SystemExit) as left:
        console.run(work)
    assert left.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_lost_signal_ends_the_next_stage():
    """Some libraries swallow everything at their import; a server would start and serve after a SIGTERM."""

    def swallow():
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        with console.Stages("engine"):
            raise AssertionError("it goes on")

    with pytest.raises(SystemExit) as left:
        console.run(swallow)
    assert left.value.code == 128 + signal.SIGTERM
    console.run(lambda: console.Stages("next").__enter__())  # of the run before
