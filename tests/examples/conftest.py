"""The examples as modules, and a server for them over the fake engine."""

from __future__ import annotations

import asyncio
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from threaded_server import threaded_server

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
# Two searches at once, then a sum of both and a line about one, then all of it.
PLAN = """\
Plan: Find how long the first is.
#E1 = Search[length of the Nile]
Plan: Find how long the second is.
#E2 = Search[length of the Danube]
Plan: Subtract.
#E3 = Calculator[#E1 - #E2]
Plan: Say where.
#E4 = LLM[where does it flow? Given #E1]
Plan: Put together.
#E5 = LLM[#E3 and #E4]"""


class Writer:
    """A planner that writes ``text``, and keeps the prompts that it was given."""

    def __init__(self) -> None:
        self.asked, self.text = [], PLAN

    def __call__(self, prompt):
        """The plan."""
        self.asked.append(prompt)
        return self.text


class Together:
    """Tools that wait for each other: those of a level return once all of them were called.

    Steps that run one after the other would wait in vain. ``calls`` are tools with their inputs, in order.
    """

    def __init__(self, *sizes: int) -> None:
        self.calls: list[tuple[str, str]] = []
        self._places = [barrier for size in sizes for barrier in [asyncio.Barrier(size)] * size]

    def __getitem__(self, tool: str):
        async def call(given: str) -> str:
            barrier = self._places[len(self.calls)]
            self.calls.append((tool, given))
            async with asyncio.timeout(120):
                await barrier.wait()
            return f"<{tool} of {given}>"

        return call


@pytest.fixture
def writer():
    """What the planner writes."""
    return Writer()


@pytest.fixture
def server(tmp_path, writer):
    """A server with the demo's planner, over the fake engine."""
    with threaded_server(tmp_path, "hotpot-planner", plan=writer) as running:
        yield running


@pytest.fixture(autouse=True)
def _examples(monkeypatch):
    """The folder of the examples on the path, as when one of them is run."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("S3LORA_BASE_URL", "S3LORA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def example_at(monkeypatch, capsys):
    """Run an example against a server as its first lines say: address, name, arguments; what it printed."""

    def run(url: str, name: str, *arguments: str) -> str:
        monkeypatch.setenv("S3LORA_BASE_URL", url)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        capsys.readouterr()
        with ThreadPoolExecutor(1) as thread:  # it begins its own event loop
            thread.submit(runpy.run_path, str(EXAMPLES / name), run_name="__main__").result()
        return capsys.readouterr().out

    return run


@pytest.fixture
def example(example_at, server):
    """Run an example against ``server``: its name, then its arguments; what it printed."""
    return lambda name, *arguments: example_at(server.url, name, *arguments)


@pytest.fixture
def together():
    """Tools for PLAN, whose levels have two, two and one step."""
    return Together(2, 2, 1)
