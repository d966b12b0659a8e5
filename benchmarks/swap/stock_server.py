"""vLLM's own OpenAI server, unchanged, with a stopwatch on ``add_lora``.

    python stock_server.py SECONDS.jsonl [vllm serve's options]

``vllm serve`` itself needs a distribution called vllm, which the CPU builds are not.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

_ARG_MODULES = (  # make_arg_parser has moved twice: 0.33, 0.32, and up to 0.31
    "vllm.entrypoints.common.cli_args",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.openai.cli_args",
)


def main() -> None:
    """Serve until killed."""
    warnings.simplefilter("ignore", DeprecationWarning)  # the old place of run_server works everywhere
    from vllm.entrypoints.openai.api_server import run_server
    from vllm.utils.argparse_utils import FlexibleArgumentParser
    from vllm.v1.engine.async_llm import AsyncLLM

    log, bare = Path(sys.argv[1]), AsyncLLM.add_lora

    async def timed(self: AsyncLLM, request: Any) -> Any:
        began = time.perf_counter()
        try:
            return await bare(self, request)
        finally:
            line = {"name": request.lora_name, "seconds": time.perf_counter() - began}
            with log.open("a") as file:
                file.write(json.dumps(line) + "\n")

    AsyncLLM.add_lora = timed
    for name in _ARG_MODULES:
        try:
            make_arg_parser = import_module(name).make_arg_parser
            break
        except ModuleNotFoundError:
            continue
    arguments = make_arg_parser(FlexibleArgumentParser(prog="vllm")).parse_args(sys.argv[2:])
    asyncio.run(run_server(arguments))


if __name__ == "__main__":  # vLLM's processes import this file again
    main()
