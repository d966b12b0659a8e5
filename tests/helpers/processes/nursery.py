"""Processes that start at once: forked from one that has imported what takes seconds (torch, transformers).

Run as a program it is that one; ``Nursery`` is how a test asks it. A child is an ordinary process in every
other respect: it has its own environment and output, takes signals, and can be killed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
_HERE = str(Path(__file__).parent)


class Child:
    """A forked process that calls ``module:function`` with the arguments, and what it wrote."""

    def __init__(self, nursery: Nursery, pid: int, folder: Path) -> None:
        self._nursery, self.pid, self._folder = nursery, pid, folder
        self.code: int | None = None  # negative: the signal that ended it

    @property
    def out(self) -> str:
        """Its standard output so far."""
        return (self._folder / "out").read_text()

    @property
    def err(self) -> str:
        """Its standard error so far."""
        return (self._folder / "err").read_text()

    def signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self.code is None:
            os.kill(self.pid, number)

    def ended(self) -> bool:
        """Whether it has ended; then ``code`` is set."""
        if self.code is None:
            self.code = self._nursery.ask(wait=self.pid)
        return self.code is not None

    def wait(self, seconds: float = 180) -> int:
        """Its exit code. Kills it, and raises TimeoutError, after ``seconds``."""
        self.until(self.ended, seconds)
        return self.code  # type: ignore[return-value]

    def until(self, true, seconds: float = 180) -> None:
        """Wait until ``true()``. Raises TimeoutError after ``seconds``, with what it said last."""
        limit = time.monotonic() + seconds
        while not true():
            if time.monotonic() > limit:
                self.kill()
                raise TimeoutError(self.err[-4000:])
            time.sleep(0.005)

    def kill(self) -> None:
        """End it as ``kill -9`` does, and wait for that."""
        if not self.ended():
            self.signal(signal.SIGKILL)
            while not self.ended():
                time.sleep(0.002)


class Nursery:
    """The process that forks. ``close`` ends it; its children are killed by the tests that started them."""

    def __init__(self, *modules: str, **env: str) -> None:
        """``modules`` are imported once; ``env`` goes into the environment before that,
        and no setting of ours does."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("S3LORA_")}
        places = os.pathsep.join(
            [str(ROOT), *(str(ROOT / "tests/helpers" / each) for each in ("", "engines", "http")), _HERE]
        )
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**kept, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", **env},
        )

    def start(self, call: str, folder: Path, *args: str, **env: str) -> Child:
        """Fork a child that calls ``module:function(*args)``; ``folder`` takes what it writes."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("out", "err"):
            (folder / name).write_text("")
        return Child(self, self.ask(call=call, folder=str(folder), args=args, env=env), folder)

    def ask(self, **request):
        """One line there, one line back."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery has ended"
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait(180)
        self._process.stdout.close()


def _main(*modules: str) -> None:
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif (answer := os.fork()) == 0:
            _live(**request)
        print(json.dumps(answer), flush=True)


def _live(call: str, folder: str, args: list[str], env: dict[str, str]) -> None:
    """The child's whole life."""
    code = 70
    with contextlib.suppress(BaseException):
        for number, name in ((0, os.devnull), (1, "out"), (2, "err")):
            place = os.open(
                Path(folder, name), os.O_RDWR | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY
            )
            os.dup2(place, number)
            os.close(place)
        os.environ.update(env)
        module, function = call.split(":")
        code = _call(getattr(importlib.import_module(module), function), args)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _call(function, args: list[str]) -> int:
    import traceback

    try:
        return function(*args) or 0
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0
    except BaseException:
        traceback.print_exc()
        return 70


if __name__ == "__main__":
    _main(*sys.argv[1:])
    os._exit(0)  # taking down what was imported takes seconds
