"""Following an operation to its end: a bar on a terminal, elsewhere one line a step."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import typer

from s3lora_serve.cli.fleet.access import Unreachable
from s3lora_serve.terminal.console import Stages, err, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from s3lora_serve.cli.fleet.admin_client import AdminClient

POLL = 10.0  # seconds that the server is asked to hold an answer back
BREATH = 0.05  # seconds between two questions: progress may change with each megabyte
PATIENCE = 120.0  # seconds to wait for a server that went away; one start takes half a minute
EVERY = 5.0  # seconds between two lines about one step, where there is no bar
PAUSE = 1.0  # seconds between two looks for it
INTERRUPTED = 130


def follow(client: AdminClient, operation: Mapping[str, Any], seconds: float | None) -> Mapping[str, Any]:
    """The operation once it has ended, or as it is after ``seconds`` (None: however long it takes).

    A server that goes away is waited for: it finishes or undoes the operation when it is back. Ctrl-C stops
    the waiting only. Raises Unreachable if it stays away.
    """
    id_, until = str(operation["id"]), None if seconds is None else time.monotonic() + seconds
    with ExitStack() as owned:
        show = owned.enter_context(_progress(operation))
        show(operation)
        try:
            while not operation["ended"]:
                left = POLL if until is None else until - time.monotonic()
                if left <= 0:
                    break
                operation = _next(client, operation, min(POLL, left), until)
                show(operation)
                if not operation["ended"]:
                    time.sleep(BREATH)
        except KeyboardInterrupt:
            owned.close()
            say(f"operation {id_} continues; follow it with: s3lora wait {id_}{client.same}", "yellow")
            raise typer.Exit(INTERRUPTED) from None
        except Unreachable as error:
            error.hint = f"{error.hint}; what became of it: s3lora wait {id_}{client.same}"
            raise
    return operation


def _next(
    client: AdminClient, seen: Mapping[str, Any], wait: float, until: float | None
) -> Mapping[str, Any]:
    lost: float | None = None
    while True:
        try:
            # With the step that was seen: a change between two questions is answered at once.
            return client.operation(str(seen["id"]), wait, str(seen["step"]))
        except Unreachable as error:
            now = time.monotonic()
            if lost is None:
                lost = now
                say(f"no answer any more, waiting for the server: {error.message}", "yellow")
            if now - lost > PATIENCE or (until is not None and now > until):
                raise
            time.sleep(PAUSE)


@contextmanager
def _progress(begun: Mapping[str, Any]) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Shows an operation's step, and how far it is in it, each time that it is called."""
    title, told, at = f"{begun['kind']} {begun['planner'] or ''}".strip(), "", 0.0
    with Stages(title) if err.is_terminal else nullcontext() as stages:

        def show(operation: Mapping[str, Any]) -> None:
            nonlocal told, at
            step, progress = str(operation["step"]), str(operation.get("progress") or "")
            if stages is not None:
                stages(f"{step}: {progress}" if progress else step, operation.get("fraction"))
            elif not operation["ended"]:
                # A step at once; within it how far it is, where that is a share, every some seconds.
                now, measured = time.monotonic(), progress and operation.get("fraction") is not None
                line = f"{step}: {progress}" if measured and step == told.partition(":")[0] else step
                if step != told.partition(":")[0] or (measured and line != told and now - at >= EVERY):
                    told, at = line, now
                    say(f"  {title}: {line}", "dim")

        yield show
