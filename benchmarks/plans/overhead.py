"""What ``POST /v1/plans`` costs beyond vLLM's own ``/v1/chat/completions`` for the same prompt and grammar.

    python benchmarks/plans/overhead.py --config configs/planners.yaml --out FOLDER

One process serves both: s3lora-serve as ``--config`` says, and, on another port, the bare application of the
very same engine. A second process asks them in turns (``overhead_client.py``), so that noise meets all alike.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from s3lora_serve.config import load_config
from s3lora_serve.engine.vllm.vllm_engine import VllmEngine
from s3lora_serve.launch.launch import launch

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def run(options: argparse.Namespace) -> None:
    """Serve, let the client ask, and stop."""
    port, bare_port, admin_port = (free_port() for _ in range(3))
    config = load_config(options.config)
    config = config.model_copy(
        update={
            "server": config.server.model_copy(update={"port": port, "max_concurrent": 1024}),
            "admin": config.admin.model_copy(update={"port": admin_port}),
            "state": config.state.model_copy(update={"path": options.out / "state.db"}),
            "store": config.store.model_copy(update={"path": options.out / "store"}),
        }
    )
    made: list[VllmEngine] = []

    async def start(settings: VllmSettings, say: Callable[[str], None]) -> VllmEngine:
        made.append(await VllmEngine.start(settings, say))
        return made[0]

    serving = asyncio.create_task(launch(config, options.config, os.environ, start))
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url) as http:
        while not await _ready(http):
            if serving.done():
                serving.result()
            await asyncio.sleep(0.2)
    # As vLLM's own server runs its application.
    stock = uvicorn.Server(
        uvicorn.Config(made[0].openai_app(), port=bare_port, log_level="warning", access_log=False)
    )
    bare = asyncio.create_task(stock.serve())
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("overhead_client.py")),
        json.dumps(_plan(options, url, f"http://127.0.0.1:{bare_port}")),
    )
    code = await client.wait()
    stock.should_exit = True
    await bare
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    if code:
        raise SystemExit(code)


def _plan(options: argparse.Namespace, url: str, bare: str) -> dict[str, Any]:
    return {
        "ours": url,
        "stock": bare,
        "data": str(options.data),
        "planner": options.planner,
        "out": str(options.out),
        "rounds": options.rounds,
        "warm_up": options.warm_up,
        "questions": options.questions,
        "alone": options.alone,
        "concurrency": options.concurrency,
    }


async def _ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx.TransportError:
        return False


def main() -> None:
    """Run it; OUT/overhead.json and OUT/overhead.md hold the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="holds fireact/ and gsm8k/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--planner", default="hotpot-planner")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3, help="rounds that are not counted")
    parser.add_argument("--questions", type=int, default=32, help="a round")
    parser.add_argument("--alone", type=int, default=8, help="of them, where one is asked at a time")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
