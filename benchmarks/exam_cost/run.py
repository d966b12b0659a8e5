"""What an exam adds to a swap, and what others feel of it: ``measure`` on an engine, ``table`` anywhere.

    python benchmarks/exam_cost/run.py measure --tokenizer FOLDER --out FOLDER   # one GPU, about 5 minutes
    python benchmarks/exam_cost/run.py measure --setting fake --out FOLDER       # to see that all works
    python benchmarks/exam_cost/run.py table FOLDER/result.json > 2026-01-31.md

README.md says what is measured. ``OUT/result.json`` is written after each swap, so that nothing is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # llama_8b.py, machine.py
sys.path.insert(0, str(Path(__file__).parents[1] / "swap"))  # process.py
from exam_arms import ARMS, SMALL

QUIET = 3.0  # seconds before each swap in which nothing happens but the clients' requests
BEFORE_EXAM = ("admit", "load", "probe", "trial")


async def measure_swaps(
    server: Any, clients: Any, found: dict[str, Any], options: argparse.Namespace
) -> None:
    """Round after round, each arm swaps to the round's adapter, in an order of chance."""
    chance, began = random.Random(options.seed), time.perf_counter()
    arms = SMALL if options.setting != "gpu" else ARMS
    for number in range(1, options.rounds + 1):
        for arm in chance.sample(arms, len(arms)):
            if time.perf_counter() - began > options.until:
                found["notes"].append(f"round {number}, {arm.title}: left out, the time was over")
                continue
            await asyncio.sleep(QUIET)
            gone = time.time()
            operation = await server.swap(arm.planner, number)
            seconds = operation["seconds"]
            total = sum(value for step, value in seconds.items() if step != "drain")
            starts = operation["started_at"] + sum(seconds.get(step, 0.0) for step in BEFORE_EXAM)
            swap = {
                "round": number,
                "arm": arm.title,
                "seconds": seconds,
                "total": total,
                "error": operation["error"],
                "quiet": _within(clients, gone - QUIET, gone),
                "whole": _within(clients, operation["started_at"], operation["started_at"] + total),
                "exam": _within(clients, starts, starts + seconds["exam"]) if seconds.get("exam") else None,
            }
            found["swaps"].append(swap)
            found["errors"] = clients.errors
            _save(found, options.out)
            print(f"round {number}, {arm.title}: {swap['total']:.2f} s, exam {seconds.get('exam', 0):.2f} s",
                  flush=True)  # fmt: skip


def _within(clients: Any, since: float, until: float) -> dict[str, list[float]]:
    """The clients' figures of this time, in ms."""
    return {
        name: [round(1000 * seconds, 2) for at, seconds in values if since <= at <= until]
        for name, values in (("gaps", clients.gaps), ("firsts", clients.firsts))
    }


def _save(found: dict[str, Any], out: Path) -> None:
    part = out / "result.part"
    part.write_text(json.dumps(found))
    part.replace(out / "result.json")


def measure(options: argparse.Namespace) -> None:
    """Start the server, swap, and write OUT/result.json."""
    from examined_server import ExaminedServer
    from machine import machine
    from stream_clients import StreamClients

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server has a session of its own: stop it, too
    if options.setting == "gpu" and options.tokenizer is None:
        raise SystemExit("--tokenizer: name a folder with the tokenizer of a chat model")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="exam-cost-") as work:
        server = ExaminedServer(Path(work), SMALL if options.setting != "gpu" else ARMS, options)
        for number in range(options.rounds + 1):
            server.source(number)
        found: dict[str, Any] = {"setting": options.setting, "swaps": [], "notes": [], "errors": []}
        try:
            found["ready_seconds"] = server.process.start()
            print(f"ready after {found['ready_seconds']:.0f} s", flush=True)
            found["machine"] = machine("fake" if options.setting == "fake" else "vllm")
            clients = StreamClients(server.url, options.clients)
            found["clients"] = options.clients

            async def all_of_it() -> None:
                async with clients.asking():
                    await asyncio.sleep(QUIET)
                    await measure_swaps(server, clients, found, options)

            asyncio.run(all_of_it())
        finally:
            server.process.stop()


def table(options: argparse.Namespace) -> None:
    """Print the page."""
    from exam_cost_table import page

    print(page(json.loads(options.result.read_text())), end="")


def main() -> None:
    """Read the arguments, and do one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = parser.add_subparsers(required=True)
    stage = stages.add_parser("measure")
    stage.add_argument("--setting", choices=("gpu", "cpu", "fake"), default="gpu")
    stage.add_argument("--tokenizer", type=Path, help="a chat model's, for the dummy weights")
    stage.add_argument("--out", type=Path, required=True)
    stage.add_argument("--layers", type=int, default=32, help="of the dummy model; fewer for a rehearsal")
    stage.add_argument("--rounds", type=int, default=4)
    stage.add_argument("--clients", type=int, default=16, help="that stream chats meanwhile")
    stage.add_argument("--until", type=float, default=300, help="seconds; no swap is begun later")
    stage.add_argument("--seed", type=int, default=1)
    stage.set_defaults(run=measure)
    stage = stages.add_parser("table")
    stage.add_argument("result", type=Path)
    stage.set_defaults(run=table)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
