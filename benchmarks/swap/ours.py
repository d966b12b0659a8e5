"""s3lora-serve, swapped through its admin API."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import httpx
import yaml
from answers import REVISIONS_OF
from column import CONTEXT, MAX_LORAS, RANK, Setting, Swap
from process import ServerProcess, engine_environ

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKEN = "for-this-machine-only"
# A call waits for the next change; one that came between two calls is missed by the second, which then waits
# in vain. So the waits are short, the first ones shortest, since a rollback is over in milliseconds.
WAITS = (*[0.003] * 5, *[0.02] * 10)
LONGEST_WAIT = 0.1


class Ours:
    """s3lora-serve with its admin API."""

    name = "ours"
    title = "s3lora-serve"

    def __init__(self, setting: Setting, port: int, admin_port: int) -> None:
        self.base_model = setting.base.name
        self._setting = setting
        self._digests: dict[int, str] = {}
        self._http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{admin_port}",
            headers={"authorization": f"Bearer {TOKEN}", "x-s3lora-actor": "benchmark"},
            timeout=180,
            verify=False,
        )
        work = setting.work / "ours"
        work.mkdir(parents=True, exist_ok=True)
        engine = {
            "max_loras": MAX_LORAS, "max_lora_rank": RANK, "max_model_len": CONTEXT, "dtype": "bfloat16",
            "cpu_kv_cache_gib": 1, "enforce_eager": setting.enforce_eager,
            "gpu_memory_utilization": setting.gpu_memory_utilization,
            "extra_args": {"load_format": setting.load_format} if setting.load_format else {},
        }  # fmt: skip
        config = {
            "base_model": str(setting.base),
            "planners": {
                name: {"source": str(setting.adapter(revisions[0]))}
                for name, revisions in REVISIONS_OF.items()
            },
            # The tell-tale modules are as sharp as can be; they must reach the engine as they are.
            "policy": {"top": 0, "action": "observe"},
            "engine": {name: value for name, value in engine.items() if value is not None},
            "server": {"port": port},
            "admin": {"port": admin_port},
            "swap": {"drain_seconds": 60, "keep_seconds": 3600},
            "sources": {"allow": ["any"]},
            "store": {"path": str(work / "store")},
            "state": {"path": str(work / "state.db")},
        }
        path = work / "planners.yaml"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        self.process = ServerProcess(
            [sys.executable, "-m", "s3lora_serve", "--config", str(path)],
            engine_environ() | {"S3LORA_ADMIN_TOKEN": TOKEN},
            setting.work / "ours.log",
            f"http://127.0.0.1:{port}",
            "/readyz",
        )

    async def prepare(self, active: Mapping[str, int]) -> None:
        for planner in active:
            reported = httpx.get(f"{self.process.url}/v1/planners/{planner}").json()
            self._digests.setdefault(active[planner], reported["revision"])

    async def swap(self, planner: str, revision: int, way: str) -> Swap:
        if way == "revision" and revision in self._digests:
            wanted = {"revision": self._digests[revision]}
        else:
            way, wanted = "source", {"source": str(self._setting.adapter(revision))}
        return await self._order("swap", Swap(planner, revision, way), wanted)

    async def rollback(self, planner: str, revision: int) -> Swap:
        return await self._order("rollback", Swap(planner, revision, "rollback"), {})

    def revision_of(self, digest: str) -> int | None:
        """The revision that the server names ``digest``; -1 for one that nobody asked for."""
        return next((each for each, known in self._digests.items() if known.startswith(digest)), -1)

    async def _order(self, what: str, swap: Swap, body: dict[str, Any]) -> Swap:
        """Order, and wait until the operation is past its flip."""
        began = time.perf_counter()
        try:
            operation = _operation(await self._http.post(f"/admin/planners/{swap.planner}/{what}", json=body))
            waits = iter(WAITS)
            while operation["step"] not in ("draining", "done", "failed", "undone", "cancelled"):
                wait = {"wait": next(waits, LONGEST_WAIT)}
                operation = _operation(
                    await self._http.get(f"/admin/operations/{operation['id']}", params=wait)
                )
        except httpx.HTTPError as error:
            swap.error = f"{type(error).__name__}: {error}"
            return swap
        swap.wall, swap.seconds = time.perf_counter() - began, dict(operation["seconds"])
        if operation["step"] in ("failed", "undone", "cancelled"):
            swap.error = json.dumps(operation["error"])
        elif operation.get("to_digest"):
            self._digests.setdefault(swap.revision, operation["to_digest"])
        return swap


def _operation(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code not in (200, 202):
        raise httpx.HTTPError(f"HTTP {answer.status_code}: {answer.text[:300]}")
    found: dict[str, Any] = answer.json()
    return found
