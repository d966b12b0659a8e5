"""``s3lora-serve`` with the fake engine in vLLM's place: the real command in every other respect.

Two variables that only this double reads: NO_EFFECT names slots that shall change nothing, DIE_AT the moment
(``deaths.py``) at which the process is killed.
"""

from __future__ import annotations

import os
import sys

from faulty_engine import FaultyEngine

from s3lora_serve.launch import engine_choice, serve


async def start_fake(settings, say):
    """An engine that starts at once."""
    say("starting")
    engine = FaultyEngine(base_name=settings.base_name, max_loras=settings.engine.max_loras)
    if pattern := os.environ.get("NO_EFFECT"):
        engine.no_effect(pattern)
    return engine


def main(*arguments: str) -> None:
    """The command with these arguments."""
    engine_choice.start_vllm = start_fake
    if moment := os.environ.get("DIE_AT"):
        from deaths import Deaths

        Deaths(moment).install()
    sys.argv = ["s3lora-serve", *arguments]
    serve.main()


if __name__ == "__main__":
    main(*sys.argv[1:])
