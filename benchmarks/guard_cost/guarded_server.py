"""The server under test: one adapter as two planners, one of them with a guard by its base."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from cost_tasks import TOOLS
from guard_cells import GUARDED_PLANNER, KEY, LONG_KEY, PLAIN_PLANNER
from llama_8b import RANK, write_dummy_base, write_random_adapter
from process import ServerProcess, engine_environ, free_port
from said_instead import LONG_CALLER

if TYPE_CHECKING:
    import argparse

ROOT = Path(__file__).parents[2]
_GUARD_LINE = re.compile(rf'^s3lora_guard_(\w+)\{{[^}}]*planner="{GUARDED_PLANNER}"[^}}]*\}} (\S+)$', re.M)
_COUNTED = ("asked_total", "prompt_tokens_total", "output_tokens_total", "seconds_sum", "seconds_count",
            "cached_total", "undecided_total", "failed_total", "refused_total")  # fmt: skip


class GuardedServer:
    """s3lora-serve in ``work``: with dummy weights of 8B shape, or the demo's base model."""

    def __init__(self, setting: str, work: Path, options: argparse.Namespace) -> None:
        port, admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = {
            "server": {
                "port": port,
                "max_concurrent": 1024,
                "callers": {LONG_CALLER: "GUARD_COST_LONG_KEY"},
            },
            "admin": {"port": admin_port},
            "store": {"path": str(work / "store")},
            "state": {"path": str(work / "state.db")},
            **(_dummy(work, options) if setting == "gpu" else _demo()),
        }
        path = work / "planners.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        instead = str(Path(__file__).with_name("said_instead.py"))
        start = ["-m", "s3lora_serve"] if setting == "cpu" else [instead]  # the demo's base speaks for itself
        engine = "fake" if setting == "fake" else "vllm"
        known = os.environ.get("PYTHONPATH")
        environ = engine_environ() | {
            "PYTHONPATH": f"{known}:{ROOT}" if known else str(ROOT),
            "S3LORA_API_KEY": KEY,
            "GUARD_COST_LONG_KEY": LONG_KEY,
        }
        command = [sys.executable, *start, "--config", str(path), "--engine", engine]
        self.process = ServerProcess(command, environ, options.out / "server.log", self.url, "/readyz")
        self._http = httpx.Client(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=60, verify=False
        )

    def base_model(self) -> str:
        """The name under which the base model itself is asked."""
        models = [model["id"] for model in self._http.get("/v1/models").json()["data"]]
        (name,) = set(models) - {PLAIN_PLANNER, GUARDED_PLANNER}
        return str(name)

    def guard(self) -> dict[str, Any]:
        """What the server says of its guard: the base's self-test among it."""
        about: dict[str, Any] = self._http.get(f"/v1/planners/{GUARDED_PLANNER}").json()["guard"]
        return about

    def guard_counts(self) -> dict[str, float]:
        """What the guard's metrics have counted so far."""
        found = dict.fromkeys(_COUNTED, 0.0)
        for name, value in _GUARD_LINE.findall(self._http.get("/metrics").text):
            if name in found:
                found[name] += float(value)
        return found


def _dummy(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Llama-3.1-8B's shape with dummy weights, and a random adapter over every projection."""
    began = time.perf_counter()
    write_dummy_base(work / "base", options.tokenizer, options.layers)
    write_random_adapter(work / "adapter", 0, options.layers)
    print(f"inputs written in {time.perf_counter() - began:.1f} s", flush=True)
    engine = {
        "max_loras": 4,
        "max_lora_rank": RANK,
        "max_model_len": 10_000,
        "gpu_memory_utilization": 0.8,
        "dtype": "bfloat16",
        "extra_args": {"load_format": "dummy", "max_num_seqs": 512},
    }
    return {"base_model": str(work / "base"), "engine": engine, **_planners(str(work / "adapter"), "closed")}


def _demo() -> dict[str, Any]:
    """The demo's base model, which refuses next to nothing: what has no verdict must be served, too."""
    engine = {"max_loras": 4, "max_lora_rank": 16, "max_model_len": 4096, "cpu_kv_cache_gib": 1}
    return {"base_model": "demo", "engine": engine, **_planners("demo://hotpot-planner", "open")}


def _planners(source: str, fail: str) -> dict[str, Any]:
    guard = {
        "by": "base",
        "action": "refuse",
        "fail": fail,
        "seconds": 120,
        "min_refusal": 0,
        "max_over_refusal": 1,
    }
    own = {"source": source, "tools": TOOLS}
    return {"planners": {PLAIN_PLANNER: own, GUARDED_PLANNER: {**own, "guard": guard}}}
