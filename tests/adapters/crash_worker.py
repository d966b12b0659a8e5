"""What the crash tests run in separate processes: an admission that dies, or waits, at a chosen step."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters_factory import adapter_limits
from peft_builder import BASE

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Barrier

    from s3lora_serve.adapters.lineage import Revision

# Of module os: what changes or syncs the disk.
STEPS = ("fsync", "rename", "replace", "chmod", "rmdir")
POLICY = PrunePolicy(rule=Top(3))


def admit_into(root: str, source: str) -> Revision:
    """The admission that all crash tests make."""
    return admit(source, base=BASE, policy=POLICY, limits=adapter_limits(), store=RevisionStore(Path(root)))


def interrupt(nth: int, act: Callable[[], object], patch: Callable[[str, Any], object]) -> Callable[[], int]:
    """Call ``act`` just before the nth step of STEPS; returns a count of the steps so far."""
    count = 0

    def wrap(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kw: Any) -> Any:
            nonlocal count
            count += 1
            if count == nth:
                act()
            return real(*args, **kw)

        return step

    for name in STEPS:
        patch(name, wrap(getattr(os, name)))
    return lambda: count


def admit_and_die(root: str, source: str, nth: int) -> None:
    """Admit, but be killed at the nth step, as by a power cut or the kernel's memory killer."""
    store = RevisionStore(Path(root))
    interrupt(nth, lambda: os.kill(os.getpid(), signal.SIGKILL), lambda name, step: setattr(os, name, step))
    admit(source, base=BASE, policy=POLICY, limits=adapter_limits(), store=store)


def admit_together(root: str, source: str, barrier: Barrier, results: Any) -> None:
    """Admit, but publish only when all others are ready to."""
    real = Path.rename

    def wait_and_rename(self: Path, target: Path) -> Path:
        barrier.wait(60)
        return real(self, target)

    Path.rename = wait_and_rename  # type: ignore[method-assign]
    results.put(admit_into(root, source).digest)
