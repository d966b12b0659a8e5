"""Train the experiment's adapters, each in a job of its own."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import mixtures
import pool
from align import load
from fit import Recipe, fit, save

if TYPE_CHECKING:
    from pathlib import Path

    from pairs import Pair
    from spec import Spec

LR, SEEN = 5e-4, 2400  # pairs seen, whatever the number of different ones: all train for as many steps
LR_OF_MAKERS = 2e-4  # on a base model of half a billion parameters, which 5e-4 makes diverge


@dataclass(frozen=True)
class Training:
    """One adapter to train into ``out/adapters``; ``limit`` steps, if given: a rehearsal."""

    spec: Spec
    data: Path
    out: Path
    limit: int | None = None

    def __str__(self) -> str:
        return self.spec.name

    @property
    def folder(self) -> Path:
        """Where the adapter goes."""
        return self.out / "adapters" / self.spec.name


def train(job: Training) -> str:
    """Train one adapter; its folder appears when it is whole."""
    started = time.perf_counter()
    model, tokenizer = _base(job.out / job.spec.checkpoint)
    losses: list[float] = []

    def pairs_of(epoch: int) -> list[Pair]:
        return mixtures.planner_pairs(job.spec.kind, job.data, job.spec.seed, epoch)

    epochs = max(1, round(SEEN / len(pairs_of(0))))
    lr = LR_OF_MAKERS if job.spec.on else LR
    recipe = Recipe(rank=job.spec.rank, lr=lr, epochs=epochs, seed=job.spec.seed)
    try:
        adapted = fit(
            model, tokenizer, pairs_of, recipe, job.limit, lambda done, total, loss: losses.append(loss)
        )
    except BaseException:
        _base.cache_clear()  # the model still has half of an adapter on it
        raise
    part = job.folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    save(adapted, job.spec.checkpoint, part)
    adapted.unload()
    part.rename(job.folder)
    last = f"loss {losses[0]:.3f} → {losses[-1]:.3f}, " if losses else ""
    return f"{job.spec.name}: {last}{time.perf_counter() - started:.0f} s"


@lru_cache(maxsize=4)
def _base(folder: Path) -> tuple[Any, Any]:
    return load(folder, pool.device())
