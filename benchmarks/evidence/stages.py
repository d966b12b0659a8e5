"""What the stages of an experiment share: jobs that are not done again, and a note of each stage's time."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING, Any

import pool
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def run_missing(
    what: str, work: Callable[[Any], str], jobs: Sequence[Any], where: Sequence[str], each: int
) -> None:
    """``pool.run`` for the jobs whose file is not there: ``path``, or ``folder`` of those that make one."""
    left = [job for job in jobs if not (job.folder if hasattr(job, "folder") else job.path).exists()]
    pool.run(what, work, left, where, each)


def note_time(out: Path, stage: str, seconds: float, where: Sequence[str], jobs: int) -> None:
    """Write down a stage's time; of a stage that went on after a break, what was left of it."""
    devices = [torch.cuda.get_device_name(d) if d != "cpu" else platform.processor() or "cpu" for d in where]
    entry = {"seconds": {stage: seconds}, "devices": devices, "torch": torch.__version__, "jobs": jobs}
    with (out / "times.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
