"""The server under test: a planner for each size of exam, and one that clients use meanwhile."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from exam_arms import BACKGROUND
from llama_8b import RANK, write_dummy_base, write_random_adapter
from process import ServerProcess, engine_environ, free_port

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from exam_arms import Arm

ROOT = Path(__file__).parents[2]
KEY = "exam-cost"
DEMOS = ("demo://hotpot-planner", "demo://gsm8k-planner")


class ExaminedServer:
    """s3lora-serve in ``work``, with dummy weights of 8B shape or the demo's base model."""

    def __init__(self, work: Path, arms: Sequence[Arm], options: argparse.Namespace) -> None:
        self._setting, self._work, self._layers = options.setting, work, options.layers
        port, admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{port}"
        names = [BACKGROUND, *(arm.planner for arm in arms)]
        sections = {BACKGROUND: {"action": "off"}, **{arm.planner: arm.section for arm in arms}}
        config = {
            "server": {"port": port, "max_concurrent": 1024},
            "admin": {"port": admin_port},
            "store": {"path": str(work / "store")},
            "state": {"path": str(work / "state.db")},
            "swap": {"keep_seconds": 0},
            "sources": {"allow": [str(work)]},
            "planners": {name: {"source": self.source(0), "exam": sections[name]} for name in names},
            **self._base(options, len(names) + 3),
        }
        path = work / "planners.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        token = work / "admin-token"
        token.write_text("exam-cost-operator-token-of-32-letters")
        token.chmod(0o600)
        engine = "fake" if self._setting == "fake" else "vllm"
        environ = engine_environ() | {
            "S3LORA_API_KEY": KEY,
            "S3LORA_ADMIN_TOKEN": token.read_text(),
        }
        command = [sys.executable, "-m", "s3lora_serve", "--config", str(path), "--engine", engine]
        self.process = ServerProcess(command, environ, options.out / "server.log", self.url, "/readyz")
        self._admin = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{admin_port}",
            headers={"authorization": f"Bearer {token.read_text()}"},
            timeout=90,
            verify=False,
        )

    def source(self, number: int) -> str:
        """The address of an adapter that no number below has."""
        if self._setting != "gpu":
            return DEMOS[number % 2]
        folder = self._work / f"adapter-{number}"
        if not folder.exists():
            write_random_adapter(folder, number, self._layers)
        return str(folder)

    async def swap(self, planner: str, number: int) -> dict[str, Any]:
        """The operation, once it is past its flip or has failed."""
        answer = await self._admin.post(
            f"/admin/planners/{planner}/swap", json={"source": self.source(number)}
        )
        if answer.is_error:
            raise RuntimeError(f"swap of {planner}: {answer.status_code} {answer.text[:500]}")
        operation: dict[str, Any] = answer.json()
        while operation["step"] not in ("draining", "done", "failed", "undone", "cancelled"):
            wait = {"wait": 5}
            answer = await self._admin.get(f"/admin/operations/{operation['id']}", params=wait)
            operation = answer.raise_for_status().json()
        return operation

    def _base(self, options: argparse.Namespace, slots: int) -> dict[str, Any]:
        if self._setting != "gpu":
            engine = {"max_loras": slots, "max_lora_rank": 16, "max_model_len": 4096, "cpu_kv_cache_gib": 1}
            return {"base_model": "demo", "engine": engine}
        began = time.perf_counter()
        write_dummy_base(self._work / "base", options.tokenizer, options.layers)
        print(f"inputs written in {time.perf_counter() - began:.1f} s", flush=True)
        engine = {
            "max_loras": slots,
            "max_lora_rank": RANK,
            "max_model_len": 8192,
            "gpu_memory_utilization": 0.8,
            "dtype": "bfloat16",
            "extra_args": {"load_format": "dummy", "max_num_seqs": 512},
        }
        return {"base_model": str(self._work / "base"), "engine": engine}
