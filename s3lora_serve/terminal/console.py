"""Output of the commands: results on stdout, all else on stderr, one clean message for a known error."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from s3lora_serve import __version__
from s3lora_serve.errors import ConfigError, S3LoRAError
from s3lora_serve.storage.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

OK, REFUSED, USAGE = 0, 1, 2
ANNOUNCE_AFTER = 1.0  # seconds
EXIT_CODES = "Exit codes: 0 done; 1 the adapter was refused or a step failed; 2 wrong usage or configuration."

# A pipe has no width: rich would fold to 80 columns, and `grep` would find half a line.
out = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
err = Console(stderr=True)
_signalled: int | None = None  # the signal to end that came to the command that runs
_voice: Callable[[str, bool], None] | None = None  # takes remarks and errors (True) in stderr's place


def speak_through(voice: Callable[[str, bool], None] | None) -> None:
    """Give remarks, and errors (True), to ``voice`` from now on, where stderr is for machines to read."""
    global _voice
    _voice = voice


def run(command: Callable[[], object]) -> None:
    """Run a command line; an error of ours becomes one message on stderr and an exit code, no traceback."""
    global _signalled
    # SIGTERM takes the way of an error, so that temporary folders and engine processes go.
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        command()
    except S3LoRAError as error:
        say_error(error)
        print_error(error.code, error.message, error.hint, error.command)
        sys.exit(exit_code(error))
    except BrokenPipeError:  # the reader left, as in `s3lora inspect ... | head`
        sys.stderr.close()
        sys.exit(REFUSED)
    finally:
        _signalled = None
        signal.signal(signal.SIGTERM, before)


def _terminated(number: int, _: object) -> None:
    global _signalled
    _signalled = number
    raise SystemExit(128 + number)


def check_signal() -> None:
    """Raise SystemExit once more if SIGTERM came: a library's bare ``except`` at its import can lose it."""
    if _signalled is not None:
        raise SystemExit(128 + _signalled)


def exit_code(error: S3LoRAError) -> int:
    """2 for what the caller wrote, 1 for what was found or what failed."""
    return USAGE if isinstance(error, ConfigError) else REFUSED


def say_error(error: S3LoRAError, subject: str = "") -> None:
    """Print the message, and below it the hint and the command that does what it says."""
    # Messages quote names out of adapters: whatever is not printable must not reach the terminal as it is.
    about = f"{subject}: " if subject else ""
    if _voice is not None:
        _voice(f"{about}{error}", True)
        return
    line = Text.assemble(("error: ", "bold red"), printable(about + error.message))
    err.print(line, soft_wrap=True, highlight=False)
    if error.hint:
        err.print(Text.assemble(("hint:  ", "bold cyan"), printable(error.hint)), soft_wrap=True)
    if error.command:
        err.print(Text.assemble(("run:   ", "bold cyan"), printable(error.command)), soft_wrap=True)


def print_error(code: str, message: str, hint: str = "", command: str = "", part: str = "") -> None:
    """With --json, the error on stdout too: one line, so that it fits among those of ``--watch``.

    ``part`` is what of a request a guard refused.
    """
    # Of the command line itself: an option may be wrong before any is read.
    if "--json" in sys.argv[1:]:
        more = {name: value for name, value in (("command", command), ("part", part)) if value}
        error = {"code": code, "message": message, "hint": hint, **more}
        sys.stdout.write(json.dumps({"error": error}) + "\n")
        sys.stdout.flush()


def show_version(wanted: bool) -> None:
    """What ``--version`` does: print the version and leave."""
    if wanted:
        typer.echo(f"s3lora-serve {__version__}")
        raise typer.Exit


def say(text: str, style: str = "") -> None:
    """A remark beside the result: on stderr, so that stdout stays clean."""
    if _voice is not None:
        _voice(text.strip(), False)
        return
    err.print(Text(printable(text), style=style), soft_wrap=True)


class Stages:
    """Shows how far one task is: a bar on a terminal, elsewhere a line for a stage that takes over a second.

    Calling it reports a stage and the share done (0..1, None if unknown). With ``keep``, a task that succeeds
    leaves a line with ``note`` and its seconds.
    """

    def __init__(self, title: str, *, keep: bool = False) -> None:
        self.note = ""
        self._title, self._keep = printable(title), keep
        self._stage, self._began = "", 0.0
        self._bar: Progress | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Self:
        check_signal()
        self._began = time.monotonic()
        if err.is_terminal and _voice is None:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[stage]}", style="dim", markup=False),
                TimeElapsedColumn(),
                console=err,
                transient=True,
            )
            self._bar.start()
            self._bar.add_task(self._title, total=None, stage="")
        return self

    def __call__(self, stage: str, fraction: float | None = None) -> None:
        if self._bar is not None:
            total = None if fraction is None else 1.0
            self._bar.update(
                self._bar.task_ids[0], total=total, completed=fraction or 0.0, stage=printable(stage)
            )
        elif stage != self._stage:
            self._stage = stage
            self._announce_later(stage)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._timer is not None:
            self._timer.cancel()
        if self._keep and kind is None:
            seconds = time.monotonic() - self._began
            if _voice is not None:
                _voice(f"{self._title}: {self.note} ({seconds:.1f} s)", False)
                return
            line = Text.assemble(("✓ ", "green"), f"{self._title:<12} {printable(self.note)}")
            err.print(line.append(f"  {seconds:.1f} s", style="dim"), soft_wrap=True)

    def _announce_later(self, stage: str) -> None:
        # By a timer, since a stage may report nothing until it is over.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(ANNOUNCE_AFTER, say, (f"  {self._title}: {stage} ...", "dim"))
        self._timer.daemon = True
        self._timer.start()
