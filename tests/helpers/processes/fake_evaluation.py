"""``s3lora`` with the fake engine in vLLM's place, for commands that are killed while they measure.

Two variables that only this double reads: SECONDS makes each token take time, ASKED names a file that gets a
line for each request.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from faulty_engine import FaultyEngine

from s3lora_serve.cli import main as cli
from s3lora_serve.cli.lab import evaluation_run


async def start_fake(settings, say):
    """An engine that starts at once."""
    say("starting")
    engine = FaultyEngine(
        base_name=settings.base_name,
        max_loras=settings.engine.max_loras,
        max_lora_rank=settings.engine.max_lora_rank,
        seconds_per_token=float(os.environ.get("SECONDS", "0")),
    )
    if asked := os.environ.get("ASKED"):
        file = Path(asked).open("a", buffering=1)  # noqa: SIM115  (open until the process ends)
        engine.observe(lambda facts: file.write(f"{facts.slot} {facts.outcome}\n"))
    return engine


def main(*arguments: str) -> None:
    """The command with these arguments."""
    evaluation_run.start_vllm = start_fake
    sys.argv = ["s3lora", *arguments]
    cli.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
