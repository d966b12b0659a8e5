"""What is timed: which adapters a batch has, on which engine, and the goals. No engine is needed to read
this."""

from __future__ import annotations

from dataclasses import dataclass

ENGINES = ("none", "stock", "ours")
BATCHES = (1, 16, 32, 128)
PREFILL = 0  # in place of a batch: 64 prompts of 512 tokens, one token each
FOUR = ("full0", "full1", "full2", "full3")
SHARES = (25, 50, 75)  # of 224 modules pruned, in per cent
RARELY = 3  # cells without a goal are timed in each third round


@dataclass(frozen=True)
class Traffic:
    """Adapters of a batch's requests, in turn; None is the base model."""

    name: str
    adapters: tuple[str | None, ...]

    def of(self, requests: int) -> list[str | None]:
        return [self.adapters[i % len(self.adapters)] for i in range(requests)]


BASE = Traffic("base", (None,))
ONE = Traffic("one adapter", ("full0",))
BESIDE = Traffic("one adapter beside as many base rows", ("full0", None))
SEVERAL = Traffic("four adapters", FOUR)
EVERYTHING = Traffic("everything pruned", ("one-module",))
PRUNED = tuple(Traffic(f"{share} % pruned, scattered", (f"scattered{share}",)) for share in SHARES)
LAYERS = tuple(Traffic(f"{share} % pruned, whole layers", (f"layers{share}",)) for share in SHARES)

# (engine, traffic) of the goals' table, which are timed in each round, and the others.
OFTEN = (
    ("none", BASE), ("stock", BASE), ("ours", BASE), ("ours", ONE), ("ours", BESIDE), ("ours", SEVERAL),
    ("ours", EVERYTHING),
)  # fmt: skip
SELDOM = (
    ("stock", ONE), ("stock", SEVERAL), ("stock", PRUNED[1]), ("stock", EVERYTHING),
    *(("ours", traffic) for traffic in (*PRUNED, *LAYERS)),
)  # fmt: skip

# Ratios to the engine without LoRA; of "base" to the stock LoRA engine's base requests.
GOALS: dict[str, dict[int, float]] = {
    ONE.name: {1: 1.04, 16: 1.05, 32: 1.09, 128: 1.08, PREFILL: 1.09},
    BESIDE.name: {16: 1.05, 32: 1.09, 128: 1.08},
    SEVERAL.name: {16: 1.08, 32: 1.11, 128: 1.10, PREFILL: 1.10},
    EVERYTHING.name: {1: 1.02, 16: 1.02, 32: 1.04, 128: 1.04, PREFILL: 1.06},
    BASE.name: {1: 1.02, 16: 1.02, 32: 1.02, 128: 1.02, PREFILL: 1.02},
}


@dataclass(frozen=True)
class Cell:
    """One timed call: ``batch`` requests of 128 tokens in and out, or the prefill."""

    engine: str
    traffic: Traffic
    batch: int

    @property
    def key(self) -> str:
        return f"{self.engine} | {self.traffic.name} | {self.batch}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(requests, tokens in, tokens out)."""
        return (64, 512, 1) if self.batch == PREFILL else (self.batch, 128, 128)


def cells_of(number: int, batches: tuple[int, ...] = (*BATCHES, PREFILL)) -> list[Cell]:
    """The cells of a round, counted from 0."""
    wanted = (*OFTEN, *SELDOM) if number % RARELY == 0 else OFTEN
    return [Cell(e, t, b) for b in batches for e, t in wanted if b != 1 or len(t.adapters) == 1]
