"""Whole served plans: ``POST /v1/plans`` beside ``vllm serve`` with the same adapter, prompt and grammar.

    python benchmarks/gpu_lora/served_plans.py measure --tokenizer FOLDER --out FOLDER   # one GPU, 6 minutes
    python benchmarks/gpu_lora/served_plans.py table FOLDER/served.jsonl

Both servers hold Llama-3.1-8B's shape with dummy weights on the same GPU and are asked in turn, in an order
of chance within each round. ``vllm serve`` has the very revision that ours published. ``served.jsonl`` has a
line for each block of requests, written as it ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))  # llama_8b.py, machine.py
sys.path.insert(0, str(Path(__file__).parents[1] / "swap"))  # process.py
sys.path.insert(0, str(Path(__file__).parents[1] / "guard_cost"))  # cost_tasks.py
from cost_tasks import TOOLS
from lora_table import Ratio, ratio

ROOT = Path(__file__).parents[2]
GOALS = {1: 1.25, 16: 1.17, 64: 1.12}  # plans' tokens per second, ours to vLLM's
EACH = {1: 4, 16: 2, 64: 2}  # plans a client asks for, one after the other, in a block
PLANNER, STEPS, TEXT, BUDGET = "planner", 2, 120, 512
WAYS = ("ours", "stock")


def servers(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both, started one after the other, since each looks how much memory is free."""
    import yaml
    from llama_8b import RANK, write_dummy_base, write_random_adapter
    from process import ServerProcess, engine_environ, free_port

    write_dummy_base(work / "base", options.tokenizer, options.layers)
    write_random_adapter(work / "adapter", 0, options.layers)
    port, admin_port, stock_port = free_port(), free_port(), free_port()
    config = {
        "server": {"port": port, "max_concurrent": 1024},
        "admin": {"port": admin_port},
        "store": {"path": str(work / "store")},
        "state": {"path": str(work / "state.db")},
        "base_model": str(work / "base"),
        "engine": {
            "max_loras": 4,
            "max_lora_rank": RANK,
            "max_model_len": 4096,
            "gpu_memory_utilization": 0.4,
            "dtype": "bfloat16",
            "gpu_lora": options.gpu_lora,
            "extra_args": {"load_format": "dummy", "max_num_seqs": 128},
        },
        "planners": {PLANNER: {"source": str(work / "adapter"), "tools": TOOLS}},
    }
    (work / "planners.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    known = os.environ.get("PYTHONPATH")
    environ = engine_environ() | {
        "PYTHONPATH": f"{known}:{ROOT}" if known else str(ROOT),
    }
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "s3lora_serve", "--config", str(work / "planners.yaml")]
    ours = ServerProcess(command, environ, options.out / "ours.log", url, "/readyz")
    print(f"ours ready after {ours.start():.0f} s", flush=True)
    (weights,) = (work / "store" / "revisions").glob("*/adapter_model.safetensors")
    url = f"http://127.0.0.1:{stock_port}"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(work / "base"),
        "--load-format", "dummy", "--dtype", "bfloat16", "--max-model-len", "4096", "--max-num-seqs", "128",
        "--gpu-memory-utilization", "0.4", "--enable-lora", "--max-loras", "4", "--max-lora-rank", str(RANK),
        "--lora-modules", f"{PLANNER}={weights.parent}", "--host", "127.0.0.1", "--port", str(stock_port),
    ]  # fmt: skip
    stock = ServerProcess(command, environ, options.out / "stock.log", url, "/health")
    print(f"vllm serve ready after {stock.start():.0f} s", flush=True)
    return {"ours": ours, "stock": stock}


async def plan(http: Any, way: str, url: str, task: str) -> int:
    """One plan; the number of its tokens."""
    from planners import PlannerInput, plan_grammar, render_messages

    if way == "ours":
        body: dict[str, Any] = {"planner": PLANNER, "task": task, "max_steps": STEPS, "max_text": TEXT}
        path = "/v1/plans"
    else:
        request = PlannerInput(task=task, tools=TOOLS, max_steps=STEPS)
        body = {
            "model": PLANNER,
            "messages": render_messages(request),
            "temperature": 0,
            "max_tokens": BUDGET,
            "structured_outputs": {"grammar": plan_grammar(request.tools, STEPS, max_text=TEXT)},
        }
        path = "/v1/chat/completions"
    answer = await http.post(url + path, json=body)
    if answer.status_code != 200:
        raise RuntimeError(f"{way}: {answer.status_code} {answer.text[:500]}")
    told = answer.json()
    if way == "ours":
        return int(told["meta"]["usage"]["output_tokens"])
    return int(told["usage"]["completion_tokens"])


async def block(http: Any, way: str, url: str, tasks: list[str], in_flight: int) -> dict[str, Any]:
    """All tasks, so many at a time."""
    left, seconds, tokens = list(tasks), [], []

    async def client() -> None:
        while left:
            task, began = left.pop(), time.perf_counter()
            tokens.append(await plan(http, way, url, task))
            seconds.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    wall = time.perf_counter() - began
    return {"plans": len(tasks), "wall": wall, "tokens": sum(tokens), "seconds": median(seconds)}


async def measure_all(running: dict[str, Any], options: argparse.Namespace) -> None:
    import httpx
    from cost_tasks import CostTasks

    tasks, chance = CostTasks(options.seed), random.Random(options.seed)
    until = time.perf_counter() + options.until
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits, verify=False) as http:
        for number in range(-1, options.rounds):  # the first warms, and is not kept
            for in_flight in GOALS:
                asked = [tasks.task(2) for _ in range(in_flight * EACH[in_flight])]
                for way in chance.sample(WAYS, len(WAYS)):
                    if time.perf_counter() > until:
                        return
                    found = await block(http, way, running[way].url, asked, in_flight)
                    if number >= 0:
                        _write(options.out, {"round": number, "way": way, "in_flight": in_flight, **found})
            print(f"round {number} done", flush=True)


def _write(out: Path, row: dict[str, Any]) -> None:
    with (out / "served.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def measure(options: argparse.Namespace) -> None:
    """Start both servers, ask, and stop them."""
    from machine import machine

    options.out.mkdir(parents=True, exist_ok=True)
    running: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="served-plans-") as work:
        try:
            running = servers(Path(work), options)
            _write(options.out, {"machine": machine("vllm")})
            asyncio.run(measure_all(running, options))
        finally:
            for server in running.values():
                server.stop()


def seconds_a_token(rows: list[dict[str, Any]], way: str, in_flight: int) -> dict[int, float]:
    """round -> wall seconds over tokens of that block: plans of the two ways may differ in length."""
    return {
        row["round"]: row["wall"] / row["tokens"]
        for row in rows
        if (row.get("way"), row.get("in_flight")) == (way, in_flight)
    }


def page(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    lines = [
        "| plans in flight | vLLM's s a plan | ours | tokens a plan | tokens a second, ours to vLLM's |",
        "|---|---|---|---|---|",
    ]
    for in_flight, goal in GOALS.items():
        stock, ours = (seconds_a_token(rows, way, in_flight) for way in reversed(WAYS))
        if not stock or not ours:
            continue
        found: Ratio = ratio(stock, ours)
        of = {
            way: [r for r in rows if (r.get("way"), r.get("in_flight")) == (way, in_flight)] for way in WAYS
        }
        per = {way: median(row["seconds"] for row in each) for way, each in of.items()}
        length = [
            str(round(median(row["tokens"] / row["plans"] for row in of[way]))) for way in reversed(WAYS)
        ]
        met = "met" if found.high >= goal else "**not met**"
        lines.append(
            f"| {in_flight} | {per['stock']:.3f} | {per['ours']:.3f} | {' and '.join(length)} |"
            f" {found}, ≥ {goal:.2f} {met} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    stages = parser.add_subparsers(required=True)
    stage = stages.add_parser("measure")
    stage.add_argument("--tokenizer", type=Path, required=True, help="a chat model's, for the dummy weights")
    stage.add_argument("--out", type=Path, required=True)
    stage.add_argument("--layers", type=int, default=32, help="of the dummy model; fewer for a rehearsal")
    stage.add_argument("--gpu-lora", default="on", choices=("auto", "on", "off"))
    stage.add_argument("--rounds", type=int, default=15)
    stage.add_argument("--until", type=float, default=200, help="seconds after both are ready")
    stage.add_argument("--seed", type=int, default=1)
    stage.set_defaults(run=measure)
    stage = stages.add_parser("table")
    stage.add_argument("file", type=Path)
    stage.set_defaults(run=lambda o: print(page([json.loads(x) for x in o.file.read_text().splitlines()])))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
