"""What a guard by the base costs: ``measure`` where an engine runs, then ``table`` anywhere.

    python benchmarks/guard_cost/run.py measure --tokenizer FOLDER --out FOLDER   # one GPU, about 8 minutes
    python benchmarks/guard_cost/run.py measure --setting cpu --out FOLDER        # the demo's base model
    python benchmarks/guard_cost/run.py measure --setting fake --out FOLDER       # to see that all works
    python benchmarks/guard_cost/run.py table FOLDER/result.json [MORE.json] > 2026-01-31.md

README.md says what is measured. ``OUT/result.json`` is written after each round, so that nothing is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # llama_8b.py, machine.py
sys.path.insert(0, str(Path(__file__).parents[1] / "swap"))  # process.py
from guard_cells import CELLS, PLAIN, wrong
from machine import machine

if TYPE_CHECKING:
    from block_clients import BlockClients
    from guard_cells import Cell
    from guarded_server import GuardedServer

LEAST_ROUNDS, MOST_ROUNDS, WARM_UP = 2, 12, 8


class Measuring:
    """Goes through the cells, and keeps what was found."""

    def __init__(self, server: GuardedServer, clients: BlockClients, options: argparse.Namespace) -> None:
        self._server, self._clients, self._options = server, clients, options
        self._random = random.Random(options.seed)
        self.found: dict[str, Any] = {"setting": options.setting, "cells": [], "notes": []}

    async def run(self, cells: list[Cell], began: float) -> None:
        """All cells, until the time is over."""
        for cell in cells:
            gone = time.perf_counter() - began
            if self._options.setting == "gpu" and gone + cell.seconds > self._options.until:
                self._note(f"{_name(cell)}: left out, {gone:.0f} s after the start")
                continue
            try:
                await self._cell(cell)
            except Exception as error:  # the other cells are worth having
                self._note(f"{_name(cell)}: given up: {error!r}")
                if not self._server.process.running:
                    raise

    async def _cell(self, cell: Cell) -> None:
        blocks: list[dict[str, Any]] = []
        self.found["cells"].append({"cell": asdict(cell), "blocks": blocks})
        began = time.perf_counter()
        spread = 0.0
        warm = min(cell.in_flight, WARM_UP)
        for arm in cell.arms:
            block = await self._clients.block(cell, arm, self._clients.requests(cell, warm), warm, 0.0)
            if block["errors"]:
                raise RuntimeError(f"{arm}: {block['errors']}")
            if arm == PLAIN and cell.in_flight > 1 and cell.each > 1:
                spread = statistics.median(block["seconds"])
        longest, rounds = 0.0, 0
        while rounds < MOST_ROUNDS:
            start = time.perf_counter()
            if rounds >= LEAST_ROUNDS and start - began + longest > cell.seconds:
                break
            blocks += await self._round(cell, rounds, spread)
            self.save()
            longest, rounds = max(longest, time.perf_counter() - start), rounds + 1
            print(f"{_name(cell)}, round {rounds}: {_said(cell, blocks)}", flush=True)

    async def _round(self, cell: Cell, number: int, spread: float) -> list[dict[str, Any]]:
        """Each arm once, in an order of chance. Plans are of any length, so all arms get the same tasks."""
        count = cell.in_flight * cell.each
        same = self._clients.requests(cell, count) if cell.route == "plan" else None
        found = []
        for arm in self._random.sample(cell.arms, len(cell.arms)):
            requests = same or self._clients.requests(cell, count)
            before = self._server.guard_counts()
            block = await self._clients.block(cell, arm, requests, cell.in_flight, spread)
            after = self._server.guard_counts()
            block["guard"] = {name: round(after[name] - before[name], 4) for name in after}
            found.append({"round": number, **block})
            if block["errors"]:
                self._note(f"{_name(cell)}, {arm}: {block['errors']}")
            elif told := wrong(cell, block, self._options.setting):
                self._note(f"{_name(cell)}, {arm}: {told}")
        return found

    def _note(self, text: str) -> None:
        print(text, flush=True)
        self.found["notes"].append(text)
        self.save()

    def save(self) -> None:
        """Write what was found so far."""
        path = self._options.out / "result.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(self.found))
        part.replace(path)


def _name(cell: Cell) -> str:
    return f"{cell.name}, {cell.in_flight} in flight"


def _said(cell: Cell, blocks: list[dict[str, Any]]) -> str:
    said = []
    for arm in cell.arms:
        of_arm = [block for block in blocks if block["arm"] == arm]
        seconds = statistics.median(second for block in of_arm for second in block["seconds"])
        rate = statistics.median(block["per_second"] for block in of_arm)
        said.append(f"{arm} {seconds:.3f} s, {rate:.2f}/s")
    return "; ".join(said)


def measure(options: argparse.Namespace) -> None:
    """Start the server, ask, and write OUT/result.json."""
    from block_clients import BlockClients
    from cost_tasks import CostTasks
    from guarded_server import GuardedServer

    began = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server has a session of its own: stop it, too
    if options.setting == "gpu" and options.tokenizer is None:
        raise SystemExit("--tokenizer: name a folder with the tokenizer of a chat model")
    options.out.mkdir(parents=True, exist_ok=True)
    cells = [
        cell for cell in CELLS[options.setting]
        if not options.cells or any(chosen in _name(cell) for chosen in options.cells)
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="guard-cost-") as work:
        server = GuardedServer(options.setting, Path(work), options)
        try:
            ready = server.process.start()
            print(f"ready after {ready:.0f} s; log: {options.out}/server.log", flush=True)
            clients = BlockClients(server.url, server.base_model(), CostTasks(options.seed))
            measuring = Measuring(server, clients, options)
            measuring.found |= {
                "machine": machine("fake" if options.setting == "fake" else "vllm"),
                "ready_seconds": ready,
                "guard": server.guard(),
            }
            asyncio.run(measuring.run(cells, began))
        finally:
            server.process.stop()
    print(f"all in {time.perf_counter() - began:.0f} s", flush=True)


def table(options: argparse.Namespace) -> None:
    """Print the page."""
    from cost_table import page

    print(page([json.loads(path.read_text()) for path in options.results]), end="")


def main() -> None:
    """Read the arguments, and do one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = parser.add_subparsers(required=True)
    stage = stages.add_parser("measure")
    stage.add_argument("--setting", choices=sorted(CELLS), default="gpu")
    stage.add_argument("--tokenizer", type=Path, help="a chat model's, for the dummy weights")
    stage.add_argument("--out", type=Path, required=True)
    stage.add_argument("--cells", nargs="+", help="only those in whose name ('plan, 16 in flight') one is")
    stage.add_argument("--layers", type=int, default=32, help="of the dummy model; fewer for a rehearsal")
    stage.add_argument(
        "--until", type=float, default=530, help="seconds; on a GPU no cell is begun that ends later"
    )
    stage.add_argument("--seed", type=int, default=1)
    stage.set_defaults(run=measure)
    stage = stages.add_parser("table")
    stage.add_argument("results", type=Path, nargs="+")
    stage.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
