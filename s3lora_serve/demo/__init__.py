"""What the demo needs: a small base model and two planner adapters trained for it."""

from __future__ import annotations

from pathlib import Path

from s3lora_serve.demo.demo_base import prepare_demo_base
from s3lora_serve.errors import ConfigError

__all__ = ["ADAPTERS", "adapter_path", "prepare_demo_base"]

ADAPTERS = ("gsm8k-planner", "hotpot-planner")


def adapter_path(name: str) -> Path:
    """PEFT folder of a demo adapter that this package carries. Raises ConfigError for an unknown name."""
    if name not in ADAPTERS:
        raise ConfigError(f"no demo adapter {name!r}", hint=f"choose {' or '.join(ADAPTERS)}")
    return Path(__file__).parent / "adapters" / name
