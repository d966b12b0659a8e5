"""vLLM's own server: a planner is an adapter's name, loaded and unloaded through its API."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from column import CONTEXT, MAX_LORAS, RANK, Setting, Swap
from process import ServerProcess, engine_environ

if TYPE_CHECKING:
    from collections.abc import Mapping


class Stock:
    """vLLM's own server; a planner's name is the name of an adapter, loaded and unloaded through its API."""

    def __init__(self, setting: Setting, port: int, in_place: bool) -> None:
        self.name = "inplace" if in_place else "reload"
        self.title = "vLLM, `load_inplace`" if in_place else "vLLM, unload + load"
        self.base_model = "base"
        self._setting = setting
        self._in_place = in_place
        self._http = httpx.AsyncClient(timeout=120, verify=False)
        self._timings = setting.work / f"{self.name}-add-lora.jsonl"
        options: list[str | None] = [
            "--model", str(setting.base), "--served-model-name", self.base_model, "--host", "127.0.0.1",
            "--port", str(port), "--enable-lora", "--max-loras", str(MAX_LORAS), "--max-lora-rank", str(RANK),
            "--dtype", "bfloat16", "--max-model-len", str(CONTEXT),
            *(("--load-format", setting.load_format) if setting.load_format else ()),
            *(("--gpu-memory-utilization", str(setting.gpu_memory_utilization))
              if setting.gpu_memory_utilization else ()),
            *(("--enforce-eager",) if setting.enforce_eager else ()),
        ]  # fmt: skip
        self.process = ServerProcess(
            [
                sys.executable,
                str(Path(__file__).parent / "stock_server.py"),
                str(self._timings),
                *filter(None, options),
            ],
            engine_environ() | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
            setting.work / f"{self.name}.log",
            f"http://127.0.0.1:{port}",
            "/health",
        )

    async def prepare(self, active: Mapping[str, int]) -> None:
        for planner, revision in active.items():
            await self._post("load_lora_adapter", **self._adapter(planner, revision))

    async def swap(self, planner: str, revision: int, way: str) -> Swap:
        swap, began = Swap(planner, revision, way), time.perf_counter()
        seconds: dict[str, float] = {}
        known = self._count()
        try:
            if not self._in_place:
                await self._post("unload_lora_adapter", lora_name=planner)
                seconds["unload"] = time.perf_counter() - began
            in_place = {"load_inplace": True} if self._in_place else {}
            await self._post("load_lora_adapter", **self._adapter(planner, revision), **in_place)
            seconds["load"] = self._add_lora_seconds(known)
        except httpx.HTTPError as error:
            swap.error = str(error)
        swap.wall, swap.seconds = time.perf_counter() - began, seconds
        return swap

    async def rollback(self, planner: str, revision: int) -> Swap:
        return await self.swap(planner, revision, "rollback")

    def revision_of(self, digest: str) -> int | None:
        return None

    def _adapter(self, planner: str, revision: int) -> dict[str, Any]:
        return {"lora_name": planner, "lora_path": str(self._setting.adapter(revision))}

    async def _post(self, route: str, **body: Any) -> None:
        response = await self._http.post(f"{self.process.url}/v1/{route}", json=body)
        if response.status_code != 200:
            raise httpx.HTTPError(f"{route}: HTTP {response.status_code}: {response.text[:300]}")

    def _count(self) -> int:
        return len(self._timings.read_text().splitlines()) if self._timings.exists() else 0

    def _add_lora_seconds(self, known: int) -> float:
        lines = self._timings.read_text().splitlines()[known:]
        return float(json.loads(lines[-1])["seconds"]) if lines else float("nan")
