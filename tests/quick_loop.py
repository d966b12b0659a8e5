"""What ``make test-fast`` leaves out: the engine's cases, those that start processes, and the slow ones.

``tests/slow.txt`` names the cases that took more than ``SLOW_SECONDS`` on two quiet cores; they carry the
marker ``slow``. ``make test ARGS="--write-slow"`` measures it anew.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

# Before anything asks how wide the terminal is: xdist's 80 would fold the tables that tests read.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.pop("COLUMNS", None)

SLOW_SECONDS = 0.2
SLOW_FILE = Path(__file__).with_name("slow.txt")
LEFT_OUT = ("engine", "process", "slow")
_OTHERS = ("benchmark", "enable_socket", "vcr")  # in LangChain's suites

_counts = pytest.StashKey[Counter]()  # by marker, and "all"
_names = pytest.StashKey[set]()  # of all cases that were collected


def case(nodeid: str) -> str:
    """The test without its parameters: ``folder/test_file.py::test_name``."""
    return nodeid.partition("[")[0].removeprefix("tests/")


def slow_cases() -> list[str]:
    """The lines of ``slow.txt``."""
    return SLOW_FILE.read_text().split()


def counts(config: pytest.Config) -> Counter:
    """Of what was collected, before anything was deselected: "all" cases, "files", and cases by marker."""
    return config.stash[_counts]


def names(config: pytest.Config) -> set[str]:
    """The cases that were collected, before anything was deselected."""
    return config.stash[_names]


def _marks(item: pytest.Item) -> list[str]:
    return [mark for mark in LEFT_OUT if item.get_closest_marker(mark)]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("quick loop")
    group.addoption("--fast", action="store_true", help=f"leave out the cases marked {', '.join(LEFT_OUT)}")
    group.addoption("--write-slow", action="store_true", help="write tests/slow.txt from this run's times")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_counts] = Counter()
    config.stash[_names] = set()
    if config.getoption("fast"):
        sys.addaudithook(_no_processes)
        for marker in _OTHERS:
            config.addinivalue_line("markers", f"{marker}: of a plugin that the quick loop leaves out")


def _no_processes(event: str, arguments: tuple) -> None:
    # Only what a test starts, and only Python: libraries ask ldconfig and uname while they are imported.
    if event == "subprocess.Popen" and os.environ.get("PYTEST_CURRENT_TEST"):
        program = Path(str(arguments[0])).name
        if program.startswith("python") or program in ("bash", "sh", "make", "git"):
            raise RuntimeError(f"a case of the quick loop starts {program}; mark it with pytest.mark.process")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow, found = set(slow_cases()), config.stash[_counts]
    config.stash[_names] = {case(item.nodeid) for item in items}
    found["files"] = len({item.path for item in items})
    stay, leave = [], []
    for item in items:
        if case(item.nodeid) in slow:
            item.add_marker("slow")
        found["all"] += 1
        found.update(_marks(item)[:1])
        (leave if _marks(item) else stay).append(item)
    if config.getoption("fast"):
        config.hook.pytest_deselected(items=leave)
        items[:] = stay
    # The longest first: they must not begin when the other process has nothing left to do.
    items.sort(key=lambda item: LEFT_OUT.index(marks[0]) if (marks := _marks(item)) else len(LEFT_OUT))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and _measuring is not None:
        name = case(report.nodeid)
        _measuring[name] = max(_measuring.get(name, 0.0), report.duration)


_measuring: dict[str, float] | None = None


def pytest_sessionstart(session: pytest.Session) -> None:
    global _measuring
    if session.config.getoption("write_slow") and not hasattr(session.config, "workerinput"):
        _measuring = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workeroutput"):  # with xdist it is the workers that collect
        config.workeroutput["left_out"] = dict(config.stash[_counts])
    elif _measuring is not None:
        slow = sorted(name for name, took in _measuring.items() if took > SLOW_SECONDS)
        SLOW_FILE.write_text("".join(f"{name}\n" for name in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadFileScheduling:
    return OneEngine(config, log)


class OneEngine(LoadFileScheduling):
    """Gives each file to one process, and all files that ask the engine to the same, which starts it once."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "engine" if _asks_the_engine(self.config.rootpath / file) else file


@cache
def _asks_the_engine(file: Path) -> bool:
    return "mark.engine" in file.read_text()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    output = getattr(node, "workeroutput", {})
    node.config.stash[_counts] |= Counter(output.get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("fast"):
        found = counts(config)
        each = ", ".join(f"{found[mark]} {mark}" for mark in LEFT_OUT)
        left = sum(found[mark] for mark in LEFT_OUT)
        terminalreporter.write_line(f"left out: {left} of {found['all']} cases ({each}); make test runs all")
