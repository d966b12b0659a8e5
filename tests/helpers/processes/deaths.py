"""Dying as by ``kill -9`` at a chosen moment: around a journal write, an admission, or an engine call."""

from __future__ import annotations

import functools
import os
import signal

from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.engine.fake.fake_engine import FakeEngine

_ENGINE = ("load", "unload", "score", "chat")


class Deaths:
    """Names each moment as it comes, such as ``after write swap.flipped`` or ``before unload one@0123``.

    ``at`` is the moment at which the process dies: a name, or a number of those that came since ``arm``.
    """

    def __init__(self, at: str | int | None, *, armed: bool = True) -> None:
        self._at, self._armed = at, armed
        self.moments: list[str] = []

    def arm(self) -> None:
        """Count from here."""
        self._armed = True

    def moment(self, name: str) -> None:
        """Note the moment, and die if it is the one."""
        if not self._armed:
            return
        if self._at in (name, len(self.moments)):
            os.kill(os.getpid(), signal.SIGKILL)
        self.moments.append(name)

    def install(self, *admissions: type) -> None:
        """Let every journal, every fake engine and these kinds of admission pass through the moments."""
        write = Journal.write

        def deadly_write(journal, *entries, **more):
            what = f"write {','.join(entry.action for entry in entries)}"
            self.moment(f"before {what}")
            written = write(journal, *entries, **more)
            self.moment(f"after {what}")
            return written

        Journal.write = deadly_write
        for name in _ENGINE:
            setattr(FakeEngine, name, self._engine_call(name, getattr(FakeEngine, name)))
        for admission in admissions:
            for name in ("admit", "restore"):
                setattr(admission, name, self._call(name, getattr(admission, name)))

    def _engine_call(self, name, real):
        @functools.wraps(real)
        async def call(engine, *args):
            slot = args[0] if name in ("load", "unload") else args[1]
            what = f"{name} {slot.name if slot else 'the base model'}"
            self.moment(f"before {what}")
            result = await real(engine, *args)
            self.moment(f"after {what}")
            return result

        return call

    def _call(self, name, real):
        @functools.wraps(real)
        def call(*args, **more):
            self.moment(f"before {name}")
            result = real(*args, **more)
            self.moment(f"after {name}")
            return result

        return call
