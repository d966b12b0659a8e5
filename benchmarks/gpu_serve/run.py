"""Serve two adapters on an 8B-shaped model with the product's own server, and say where the seconds go.

    python benchmarks/gpu_serve/run.py --tokenizer FOLDER --out FOLDER

The base model has Llama-3.1-8B's shape and dummy weights (vLLM's ``load_format=dummy``), so no checkpoint
is needed; the tokenizer of any chat model will do. The adapters are random, r=16 on all seven projections
(224 modules, 84 MB each). Everything else is what a user runs: ``s3lora-serve --config``, then HTTP.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from llama_8b import LAYERS, RANK, write_dummy_base, write_random_adapter

NAMES = ("alpha-planner", "beta-planner")
TOOLS = [
    {"name": "Search", "description": "look something up"},
    {"name": "Calculator", "description": "arithmetic"},
]


def write_config(folder: Path, port: int) -> Path:
    """The planners.yaml that the server is started with."""
    config = {
        "base_model": str(folder / "base"),
        "planners": {name: {"source": str(folder / name)} for name in NAMES},
        "engine": {
            "max_loras": 4,
            "max_lora_rank": RANK,
            "max_model_len": 4096,
            "gpu_memory_utilization": 0.5,
            "dtype": "bfloat16",
            "extra_args": {"load_format": "dummy"},
        },
        "server": {"port": port},
        "store": {"path": str(folder / "store")},
    }
    path = folder / "planners.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def ask(port: int, path: str, body: object | None = None) -> tuple[float, dict]:
    """(seconds, JSON answer) of one HTTP request; the body of an error answer is raised."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"}
    )
    started = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=300) as response:
            return time.perf_counter() - started, json.load(response)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: HTTP {error.code}: {error.read().decode()[:600]}") from error


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(port: int, server: subprocess.Popen[bytes], limit: float) -> float:
    """Seconds until /readyz answers 200."""
    started = time.perf_counter()
    while time.perf_counter() - started < limit:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {server.returncode}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).close()
            return time.perf_counter() - started
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"not ready after {limit} s")


def main() -> None:
    """Build, serve, ask, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer for a rehearsal on a CPU")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument(
        "--vanishing",
        action="store_true",
        help="adapters whose update is lost in rounding: the server must notice and refuse to start",
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.port = options.port or free_port()
    work = Path(tempfile.mkdtemp(prefix="gpu-serve-"))
    started = time.perf_counter()
    write_dummy_base(work / "base", options.tokenizer, options.layers)
    for seed, name in enumerate(NAMES):
        write_random_adapter(work / name, seed, options.layers, size=1e-30 if options.vanishing else 1.0)
    print(f"inputs written in {time.perf_counter() - started:.1f} s", flush=True)

    log = (options.out / "server.log").open("wb")
    command = [
        sys.executable,
        "-m",
        "s3lora_serve",
        "--config",
        str(write_config(work, options.port)),
    ]
    server = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    try:
        if options.vanishing:
            print(f"exit code {server.wait(options.limit)}, expected 1")
            return
        result: dict[str, object] = {"ready_seconds": wait_ready(options.port, server, options.limit)}
        for name in NAMES:
            report = ask(options.port, f"/v1/planners/{name}")[1]
            kept = ("revision", "state", "served_by", "ssi", "kept_modules", "effect", "seconds")
            result[name] = {key: report[key] for key in kept}
        for model in (*NAMES, *NAMES):
            body = {
                "model": model,
                "messages": [{"role": "user", "content": "Plan a trip."}],
                "max_tokens": 32,
                "temperature": 0,
            }
            seconds, answer = ask(options.port, "/v1/chat/completions", body)
            text = answer["choices"][0]["message"]["content"]
            result[f"chat {model}"] = {
                "seconds": seconds,
                "model": answer["model"],
                "usage": answer["usage"],
                "text": text[:80],
            }
        seconds, plan = ask(
            options.port,
            "/v1/plans",
            {"planner": NAMES[0], "task": "Who is older?", "tools": TOOLS, "max_steps": 2},
        )
        result["plan"] = {"seconds": seconds, "answer": plan}
        import vllm  # only here: to name the version in the result

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor()
        result["machine"] = {
            "device": gpu,
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        (options.out / "result.json").write_text(json.dumps(result, indent=2))
        print(json.dumps(result, indent=1)[:6000])
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
        log.close()
        print((options.out / "server.log").read_text(errors="replace")[-5000:])


if __name__ == "__main__":
    main()
