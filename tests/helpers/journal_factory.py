"""What the tests of the state file write into it, and a process that can be killed while it writes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from s3lora_serve.control.journal.entry import NewEntry
from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.operation import Kind, Operation, Order, Step
from s3lora_serve.fleet.planner_record import PlannerRecord

ROOT = Path(__file__).parents[2]
ENTRIES = 20  # in each decision below: a transaction long enough to be killed in the middle


def digest(n: int) -> str:
    """A revision's digest."""
    return f"{n:064x}"


def record(name: str = "search", n: int = 1, **changes) -> PlannerRecord:
    """What planner ``name`` shall serve at its generation ``n``."""
    values = {"active": digest(n), "previous": digest(n - 1), "candidate": None, "rollout": None}
    return PlannerRecord(**{"name": name, "declared": digest(0), "generation": n, **values, **changes})


def operation(n: int = 1, step: Step = Step.DONE, key: str | None = None, **changes) -> Operation:
    """Swap number ``n``."""
    values = {"kind": Kind.SWAP, "planner": "search", "order": Order("alice@desk", "better", key=key)}
    return Operation(**{"id": f"op-{n}", "step": step, "started_at": float(n), **values, **changes})


def decide(journal: Journal, n: int, entries: int = ENTRIES) -> int:
    """Decision ``n``: all of it is in one transaction. Returns the number of its last entry."""
    lines = [NewEntry("alice@desk", "flip", "search", f"op-{n}", details={"n": n}) for _ in range(entries)]
    return journal.write(*lines, planner=record(n=n), operation=operation(n))[-1].seq


def decided(journal: Journal) -> int:
    """How many decisions the journal holds, each of them whole, in order, and the chain unbroken."""
    assert journal.verify() is None
    last = journal.head().seq
    lines = journal.entries(limit=last + 1)
    assert [entry.details["n"] for entry in lines] == [1 + i // ENTRIES for i in range(last)]
    assert last % ENTRIES == 0, "part of a decision was kept"
    n = last // ENTRIES
    assert journal.planners() == ({"search": record(n=n)} if n else {})
    assert [each.id for each in journal.operations(limit=n + 1)] == [f"op-{i}" for i in range(n, 0, -1)]
    return n


def writer(path: Path, *options: str) -> subprocess.Popen[bytes]:
    """A process that decides for ever and says on stdout, line by line, which decisions were acknowledged."""
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    return subprocess.Popen(
        [sys.executable, __file__, str(path), *options],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places},
    )


def _main(path: str, kill_at: str = "0", decisions: str = "1000000") -> None:
    if int(kill_at):
        _kill_before_statement(int(kill_at))
    journal = Journal(Path(path))
    done = sum(each.generation for each in journal.planners().values())  # there is one planner, or none
    os.write(1, b"open\n")
    for n in range(done + 1, done + 1 + int(decisions)):
        decide(journal, n)
        os.write(1, b"%d\n" % n)
        if not int(kill_at):
            time.sleep(0.0002)
    journal.close()


def _kill_before_statement(kill_at: int) -> None:
    """Have SQLite's ``kill_at``-th statement from here on end the process as kill -9 does."""
    import signal
    import sqlite3

    connect, left = sqlite3.connect, kill_at

    class Deadly(sqlite3.Connection):
        def execute(self, *args):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().execute(*args)

    sqlite3.connect = lambda *args, **kw: connect(*args, factory=Deadly, **kw)


if __name__ == "__main__":
    _main(*sys.argv[1:])
