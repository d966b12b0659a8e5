"""The server under test: its settings, its process, and its operators' routes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import yaml
from process import ServerProcess, free_port
from variants import write_variant

if TYPE_CHECKING:
    from pathlib import Path

TOKEN, KEY = "soak-operators-only", "soak-clients-only"
PLANNERS = {"alpha": "hotpot-planner", "beta": "gsm8k-planner", "gamma": "hotpot-planner"}
TOOLS = [{"name": "Search", "description": "looks up a page"}, {"name": "LLM", "description": "answers"}]
ENVIRON = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "S3LORA_ADMIN_TOKEN": TOKEN,
    "S3LORA_API_KEY": KEY,
}


class SoakServer:
    """s3lora-serve on a folder of its own; adapters that are swapped in are made below ``root/sources``."""

    def __init__(self, root: Path, engine: str, *, layers: int | None = None) -> None:
        self.root, self.engine, self.layers = root, engine, layers
        self.state, self.store = root / "state.db", root / "store"
        if engine == "fake":  # which keeps its own, beside those of a real engine
            self.state, self.store = root / "fake" / "state.db", root / "fake" / "store"
        self.host = ("127.0.0.1", free_port())
        self.url = f"http://127.0.0.1:{self.host[1]}"
        admin, self.silent = free_port(), free_port()  # silent: for a source that never answers
        self._made = 0
        config = {
            "base_model": "demo",
            "planners": {
                name: {"source": f"demo://{source}", "tools": TOOLS} for name, source in PLANNERS.items()
            },
            "policy": {"top": 1},
            "engine": {"max_loras": 6, "max_lora_rank": 8, "max_model_len": 2048},
            "server": {"port": self.host[1]},
            "admin": {"port": admin},
            "store": {"path": str(root / "store")},
            "state": {"path": str(root / "state.db")},
        } | _any_source(self.silent)
        self.config = root / "planners.yaml"
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))
        command = [sys.executable, "-m", "s3lora_serve", "--config", str(self.config), "--engine", engine]
        self.process = ServerProcess(command, ENVIRON, root / "server.log", self.url, "/readyz")
        self.admin = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{admin}",
            headers={"authorization": f"Bearer {TOKEN}", "x-s3lora-actor": "soak"},
            timeout=60,
            verify=False,
        )

    def clients(self, limit: float = 300) -> httpx.AsyncClient:
        """A client with the key."""
        return httpx.AsyncClient(
            base_url=self.url, headers={"authorization": f"Bearer {KEY}"}, timeout=limit, verify=False
        )

    def new_adapter(self) -> Path:
        """A folder with an adapter that the server has never seen."""
        self._made += 1
        return write_variant(
            self.root / "sources" / f"{self._made:05d}", 1000 + self._made, layers=self.layers
        )

    @property
    def made(self) -> int:
        """Adapters made so far."""
        return self._made

    @property
    def main(self) -> psutil.Process:
        """The server's own process."""
        assert self.process._process is not None
        return psutil.Process(self.process._process.pid)

    def engine_processes(self, name: str) -> list[psutil.Process]:
        """Those of vLLM that call themselves so: EngineCore, Worker."""
        found = []
        for child in self.main.children(recursive=True):
            try:
                if name in " ".join(child.cmdline()) or name in child.name():
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def metrics_bytes(self) -> int:
        """Length of what /metrics says."""
        answer = httpx.get(f"{self.url}/metrics", headers={"authorization": f"Bearer {KEY}"}, timeout=30)
        return len(answer.content)

    def store_bytes(self) -> int:
        """All files of the store."""
        return sum(path.stat().st_size for path in self.store.rglob("*") if path.is_file())

    async def cancel_route(self) -> str | None:
        """The path of the route that cancels an operation, if this build has one."""
        paths: dict[str, Any] = (await self.admin.get("/admin/openapi.json")).json()["paths"]
        return next((path for path in paths if path.endswith("/cancel")), None)

    def audit(self) -> tuple[bool, str]:
        """``s3lora audit`` of the stopped server's files: whether all is well, and what it printed."""
        command = [sys.executable, "-m", "s3lora_serve.cli.main", "audit", "--state", str(self.state)]
        done = subprocess.run(
            [*command, "--json"], capture_output=True, text=True, check=False, env=os.environ | ENVIRON
        )
        return done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def _any_source(silent: int) -> dict[str, Any]:
    """What lets orders name new folders and the address that never answers, where this build asks for it."""
    from s3lora_serve.config import json_schema

    known = "sources" in json_schema()["properties"]
    return {"sources": {"allow": ["any", f"http://127.0.0.1:{silent}"]}} if known else {}
