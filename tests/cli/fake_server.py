"""``s3lora-serve`` with the fake engine in vLLM's place: the real command in every other respect."""

from __future__ import annotations

import os

from s3lora_serve.cli import launch, serve
from s3lora_serve.engine.fake import FakeEngine


async def start_fake(settings, say):
    """An engine that starts at once; NO_EFFECT names slots that shall change nothing."""
    say("starting")
    engine = FakeEngine(base_name=settings.base_name, max_loras=settings.max_loras)
    if pattern := os.environ.get("NO_EFFECT"):
        engine.no_effect(pattern)
    return engine


if __name__ == "__main__":
    launch._start_vllm = start_fake
    serve.main()
