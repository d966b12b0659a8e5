"""Seconds from ``make serve`` on a prepared machine to the first plan, and of plans after it.

    .venv/bin/python benchmarks/demo_start/run.py --runs 3 [--avx2] [--before CHECKOUT] [--only now] > DATE.md

Prepared means: installed, and the demo base model converted. Each run starts the server afresh with the
committed ``configs/planners.yaml``, its store and state in a folder of the benchmark's own, and asks two
plans twice. The variants take turns. ``before`` is an earlier version of the product, installed in CHECKOUT.
The first run of each version, in which the store is empty, is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
STAGE = re.compile(r"✓ (\S+).*?([0-9.]+) s\s*$")
TASKS = {
    "hotpot-planner": "Which of the two directors of The Matrix was born first?",
    "gsm8k-planner": "A pen costs 2 dollars and a book 5. What do 3 pens and 2 books cost?",
}
# What differs between the variants: settings of the engine, and its environment.
VARIANTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "now": ({}, {}),
    "bfloat16": ({"dtype": "bfloat16"}, {}),
    "float32": ({"dtype": "float32"}, {}),
    "float32 on all cores": ({"dtype": "float32"}, {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}),
}
# A processor without bfloat16, as far as a newer one can play it (avx2/sitecustomize.py).
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "PYTHONPATH": str(Path(__file__).parent / "avx2"),
}
ORDER = ("base", "admit", "restore", "engine", "load", "of it: load, probe, trial", "first plan", "total")


def run_once(root: Path, folder: Path, variant: str, environment: dict[str, str]) -> dict[str, float]:
    """Seconds by stage of one start, and of each plan; ``total`` ends with the first plan.

    ``root`` is the product's checkout, ``folder`` where it keeps its store and state.
    """
    settings, own = VARIANTS.get(variant, ({}, {}))
    folder.mkdir(exist_ok=True)
    config = yaml.safe_load((root / "configs/planners.yaml").read_text())
    config["engine"].update(settings)
    config |= {"store": {"path": f"{folder}/store"}, "state": {"path": f"{folder}/state.db"}}
    path = folder / "planners.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    began = time.perf_counter()
    command = ["make", "--no-print-directory", "serve", f"CONFIG={path}", "ARGS=--port 0 --admin-port 0"]
    server = subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, **environment, **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seconds: dict[str, float] = {}
    try:
        url = read_stages(server, began, seconds)
        seconds["of it: load, probe, trial"] = sum(sum(loads(url, name).values()) for name in TASKS)
        for turn in ("first", "next"):
            for planner, task in TASKS.items():
                asked = time.perf_counter()
                cost = plan(url, planner, task)
                took = time.perf_counter() - asked
                if turn == "first" and planner == next(iter(TASKS)):
                    seconds["first plan"], seconds["total"] = took, time.perf_counter() - began
                seconds[f"{planner}, {turn}"] = took
                seconds[f"{planner}, {turn}, ms a token"] = 1000 * took / cost["output_tokens"]
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)
    return seconds


def read_stages(server: subprocess.Popen[str], began: float, seconds: dict[str, float]) -> str:
    """Follow the server's output to the line with its address, which is returned."""
    assert server.stdout is not None  # Popen was given PIPE
    for line in server.stdout:
        sys.stderr.write(f"{time.perf_counter() - began:6.1f}  {line}")
        if found := STAGE.search(line):
            seconds[found[1]] = seconds.get(found[1], 0.0) + float(found[2])
        if found := re.search(r"Listening on (http\S+)", line):
            return found[1]
    raise SystemExit(f"the server ended with {server.wait()}")


def loads(url: str, planner: str) -> dict[str, float]:
    """Seconds of the planner's load, probe and trial."""
    with urllib.request.urlopen(f"{url}/v1/planners/{planner}") as answer:
        found: dict[str, float] = json.load(answer)["seconds"]
        return found


def plan(url: str, planner: str, task: str) -> dict[str, float]:
    """What a greedy plan cost, which must have steps."""
    body = json.dumps({"planner": planner, "task": task, "temperature": 0}).encode()
    request = urllib.request.Request(f"{url}/v1/plans", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        made = json.load(answer)
    if not made["steps"]:
        raise SystemExit(f"no plan: {made}")
    cost: dict[str, float] = made["meta"]["cost"]
    return cost


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each variant")
    parser.add_argument("--avx2", action="store_true", help="as a processor without bfloat16 would")
    parser.add_argument(
        "--before", type=Path, help="a checkout of an earlier version, installed: one more column"
    )
    parser.add_argument("--only", default="now", help=f"of {', '.join(VARIANTS)}; split by commas")
    options = parser.parse_args()
    environment = AVX2 if options.avx2 else {}
    variants = dict.fromkeys(options.only.split(","), ROOT)
    if options.before:
        variants = {"before": options.before.resolve(), **variants}
    runs: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folders = {root: Path(name) / str(i) for i, root in enumerate(dict.fromkeys(variants.values()))}
        for root, folder in folders.items():
            run_once(root, folder, "now", environment)
        for _ in range(options.runs):
            for variant, root in variants.items():
                runs[variant].append(run_once(root, folders[root], variant, environment))
    print(f"# From `make serve` to the first plan, {datetime.now(UTC):%Y-%m-%d}\n")
    print(f"{machine()}{', held to AVX2' if options.avx2 else ''}; vLLM {vllm()}, torch {version('torch')},")
    print(f"Python {platform.python_version()}. {options.runs} starts of each column, in turns:")
    print("median (min to max).\n")
    print(f"| seconds | {' | '.join(variants)} |\n|---|{'---|' * len(variants)}")
    found = {name for each in runs.values() for run in each for name in run}
    for name in [*(n for n in ORDER if n in found), *sorted(found - {*ORDER})]:
        cells = [[run.get(name, 0.0) for run in runs[variant]] for variant in variants]
        texts = [f"{statistics.median(c):.1f} ({min(c):.1f} to {max(c):.1f})" for c in cells]
        print(f"| {name} | {' | '.join(texts)} |")


def machine() -> str:
    """The processor, and whether it computes in bfloat16."""
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", text)
    bfloat16 = "with" if re.search(r"avx512_bf16|amx_bf16|\bbf16\b", text) else "without"
    return f"{os.cpu_count()} cores of {found[1] if found else platform.processor()} {bfloat16} bfloat16"


def vllm() -> str:
    """The installed engine's version."""
    try:
        return version("vllm-cpu")
    except ModuleNotFoundError:
        return version("vllm")


if __name__ == "__main__":
    main()
