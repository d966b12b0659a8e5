"""The asking side of ``overhead.py``: every way to the same plan, in turns, from a process of its own."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from questions import tasks, tools

from planners import PlannerInput, plan_grammar, render_messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Ask = Callable[[str], Awaitable[int]]

MAX_STEPS = 8


async def ways(http: httpx.AsyncClient, plan: dict[str, Any]) -> dict[str, Ask]:
    """Each way to a plan for a task; it returns the number of generated tokens."""
    offered = tools(plan["planner"], "standard")
    specs = [tool.model_dump(exclude_none=True) for tool in offered]
    grammar = plan_grammar(offered, MAX_STEPS)
    models = (await http.get(plan["ours"] + "/v1/models")).json()["data"]
    revision = next(model["s3lora"]["revision"] for model in models if model["id"] == plan["planner"])
    slot = f"{plan['planner']}@{revision[:12]}"
    budget = 1024

    async def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await http.post(url, json=body)
        if answer.status_code != 200:
            raise SystemExit(f"{url}: {answer.status_code} {answer.text}")
        return dict(answer.json())

    async def stock(task: str) -> int:
        request = PlannerInput(task=task, tools=offered, max_steps=MAX_STEPS)
        body = {
            "model": slot,
            "messages": render_messages(request),
            "temperature": 0,
            "max_tokens": budget,
            "structured_outputs": {"grammar": grammar},
        }
        found = await post(plan["stock"] + "/v1/chat/completions", body)
        return int(found["usage"]["completion_tokens"])

    async def plans(task: str) -> int:
        body = {"planner": plan["planner"], "task": task, "tools": specs, "max_steps": MAX_STEPS}
        found = await post(plan["ours"] + "/v1/plans", body)
        return int(found["meta"]["usage"]["output_tokens"])

    async def streamed(task: str) -> int:
        body = {"planner": plan["planner"], "task": task, "tools": specs, "max_steps": MAX_STEPS}
        async with http.stream("POST", plan["ours"] + "/v1/plans", json={**body, "stream": True}) as answer:
            lines = [line async for line in answer.aiter_lines() if line.startswith("data: ")]
        return int(json.loads(lines[-1][6:])["usage"]["output_tokens"])

    async def chat(task: str) -> int:
        body = {
            "model": plan["planner"],
            "messages": [{"role": "user", "content": task}],
            "max_tokens": budget,
            "s3lora": {"plan": {"tools": specs, "max_steps": MAX_STEPS}},
        }
        found = await post(plan["ours"] + "/v1/chat/completions", body)
        return int(found["usage"]["completion_tokens"])

    return {"stock": stock, "plans": plans, "streamed": streamed, "chat": chat}


async def round_of(ask: Ask, questions: Sequence[str], concurrency: int) -> dict[str, Any]:
    """Ask all questions, so many at a time."""
    gate = asyncio.Semaphore(concurrency)
    seconds: list[float] = []
    tokens = 0

    async def one(task: str) -> None:
        nonlocal tokens
        async with gate:
            begun = time.perf_counter()
            written = await ask(task)  # not added here: the sum would be read before the wait
            tokens += written
            seconds.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*map(one, questions))
    return {"wall": time.perf_counter() - begun, "seconds": seconds, "tokens": tokens}


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Every way at every concurrency, in shuffled order within each round."""
    questions = tasks(plan["planner"], Path(plan["data"]), plan["questions"])
    found: dict[str, Any] = {}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=600, limits=limits) as http:
        asks = await ways(http, plan)
        for concurrency in plan["concurrency"]:
            part = questions if concurrency > 1 else questions[: plan["alone"]]
            rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in asks}
            for number in range(plan["rounds"] + plan["warm_up"]):
                for name in random.sample(sorted(asks), len(asks)):
                    result = await round_of(asks[name], part, concurrency)
                    if number >= plan["warm_up"]:
                        rounds[name].append(result)
            found[str(concurrency)] = {name: _figures(kept, len(part)) for name, kept in rounds.items()}
            print(concurrency, json.dumps(found[str(concurrency)], indent=1), flush=True)
    return found


def _figures(rounds: list[dict[str, Any]], questions: int) -> dict[str, Any]:
    every = [second for one in rounds for second in one["seconds"]]
    return {
        **_spread(every),
        "plans_per_second": [questions / one["wall"] for one in rounds],
        "tokens": [one["tokens"] for one in rounds],
    }


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median_ms": statistics.median(ordered) * 1000,
        "p90_ms": ordered[int(len(ordered) * 0.9)] * 1000,
        "calls": len(ordered),
    }


def page(found: dict[str, Any]) -> str:
    """The figures as Markdown tables."""
    lines = []
    for concurrency, ways_found in found.items():
        stock = ways_found["stock"]
        lines += [
            f"{concurrency} at a time ({stock['calls']} calls a way):",
            "",
            "| way | median, ms | added, ms | p90, ms | plans/s | throughput, median of rounds |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name, figures in ways_found.items():
            pairs = zip(figures["plans_per_second"], stock["plans_per_second"], strict=True)
            ratio = statistics.median(a / b for a, b in pairs)
            lines.append(
                f"| {TITLES[name]} | {figures['median_ms']:.1f} |"
                f" {figures['median_ms'] - stock['median_ms']:+.1f} | {figures['p90_ms']:.1f} |"
                f" {statistics.median(figures['plans_per_second']):.2f} | {ratio:.3f}× |"
            )
        lines.append("")
    return "\n".join(lines) + "\n"


TITLES = {
    "stock": "vLLM `/v1/chat/completions`",
    "plans": "`POST /v1/plans`",
    "streamed": "`POST /v1/plans`, streamed",
    "chat": "`/v1/chat/completions` with `s3lora.plan`",
}


def main() -> None:
    """Ask, and write the figures."""
    plan = json.loads(sys.argv[1])
    random.seed(0)
    found = asyncio.run(run(plan))
    out = Path(plan["out"])
    (out / "overhead.json").write_text(json.dumps(found, indent=1))
    (out / "overhead.md").write_text(page(found))
    print(page(found))


if __name__ == "__main__":
    main()
