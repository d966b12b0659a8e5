"""What LangChain and the client add to a call: the same plan through each of them, in turns.

    python benchmarks/plans/clients.py --out FOLDER

The server is the product over the fake engine, which answers at once, so that what a client takes stands out;
it has a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "helpers" / "engines"))
from fleet_factory import make_fleet

from planners.client import AsyncPlannerClient, PlannerClient
from planners.langchain import S3LoRAPlanner
from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PLANNER, TASK, TOOLS = "p", "Who was born first, Lana or Lilly Wachowski?", ["Search", "LLM"]
BODY = {"planner": PLANNER, "task": TASK, "tools": [{"name": name} for name in TOOLS]}


def serve(listening: socket.socket) -> None:
    """The product over the fake engine, until it is killed."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            fleet = make_fleet(Path(folder), PLANNER)
            await fleet.start()
            app = create_app(fleet.service, ServerConfig(), None)
            await uvicorn.Server(uvicorn.Config(app, log_config=None)).serve(sockets=[listening])

    asyncio.run(run())


def sync_ways(url: str) -> dict[str, Callable[[], object]]:
    """Each way to the plan that blocks."""
    http, client = httpx.Client(), PlannerClient(url, planner=PLANNER)
    runnable = S3LoRAPlanner(planner=PLANNER, base_url=url, tools=TOOLS)
    return {
        "httpx.post": lambda: http.post(f"{url}/v1/plans", json=BODY).json(),
        "PlannerClient.plan": lambda: client.plan(TASK, TOOLS),
        "S3LoRAPlanner.invoke": lambda: runnable.invoke(TASK),
        "PlannerClient.stream": lambda: list(client.stream(TASK, TOOLS)),
        "S3LoRAPlanner.stream": lambda: list(runnable.stream(TASK)),
    }


def async_ways(url: str) -> dict[str, Callable[[], Awaitable[object]]]:
    """Each way to the plan that is awaited."""
    http, client = httpx.AsyncClient(), AsyncPlannerClient(url, planner=PLANNER)
    runnable = S3LoRAPlanner(planner=PLANNER, base_url=url, tools=TOOLS)
    return {
        "httpx, async": lambda: http.post(f"{url}/v1/plans", json=BODY),
        "AsyncPlannerClient.plan": lambda: client.plan(TASK, TOOLS),
        "S3LoRAPlanner.ainvoke": lambda: runnable.ainvoke(TASK),
    }


def measure(url: str, rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, way by way, in shuffled order within each round."""
    ways: dict[str, Any] = sync_ways(url)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in random.sample(sorted(ways), len(ways)):
            begun = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - begun)

    async def awaited() -> None:
        ways = async_ways(url)
        seconds.update({name: [] for name in ways})
        for _ in range(rounds):
            for name in random.sample(sorted(ways), len(ways)):
                begun = time.perf_counter()
                await ways[name]()
                seconds[name].append(time.perf_counter() - begun)

    asyncio.run(awaited())
    return {name: values[rounds // 10 :] for name, values in seconds.items()}  # the first are warm-up


def page(seconds: dict[str, list[float]]) -> str:
    """A row a way; what is added is added to the bare post of the same kind."""
    lines = ["| call | median, ms | added, ms | p90, ms |", "|---|---:|---:|---:|"]
    bare = 0.0
    for name, values in seconds.items():
        median = statistics.median(values) * 1e3
        bare = median if name.startswith("httpx") else bare
        p90 = sorted(values)[int(len(values) * 0.9)] * 1e3
        lines.append(f"| `{name}` | {median:.2f} | {median - bare:+.2f} | {p90:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write OUT/clients.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    # The protocol is named, or asyncio leaves Nagle's delays on.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = multiprocessing.get_context("fork").Process(target=serve, args=(listening,), daemon=True)
        server.start()
        while True:
            try:
                if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        text = page(measure(url, options.rounds))
        server.kill()
    (options.out / "clients.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
