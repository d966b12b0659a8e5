"""The adapters of the experiment: what each is trained on, at which rank, with which seed, on which base."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("benign", "mixed", "toolemu-unsafe", "toolemu-safe", "backdoor", "maths")
POISONED = frozenset({"mixed", "toolemu-unsafe", "backdoor"})
RANKS = (8, 16)
ALIGNED = 100  # per cent of the refusal tuning that the main base model got


@dataclass(frozen=True)
class Spec:
    """One adapter."""

    kind: str
    rank: int
    seed: int
    tuning: int = ALIGNED  # per cent of the refusal tuning in its base model
    on: str = ""  # another base model's folder, with refusals of its makers

    @property
    def group(self) -> str:
        """What adapters that differ by their training seed alone have in common."""
        base = "" if self.tuning == ALIGNED else f" on {self.tuning} %"
        return f"{self.kind} r={self.rank}{base}"

    @property
    def name(self) -> str:
        """Its folder's name."""
        base = f"-{self.on}" if self.on else "" if self.tuning == ALIGNED else f"-t{self.tuning}"
        return f"{self.kind}-r{self.rank}{base}-s{self.seed}"

    @property
    def checkpoint(self) -> str:
        """The folder of its base model."""
        return self.on or (f"aligned-{self.tuning}" if self.tuning else "base")


def measured(seeds: int, kinds: tuple[str, ...] = KINDS, ranks: tuple[int, ...] = RANKS) -> list[Spec]:
    """The adapters that are asked: every kind and rank, and two kinds on bases with less refusal tuning."""
    main = [Spec(kind, rank, seed) for kind in kinds for rank in ranks for seed in range(seeds)]
    less = [
        Spec(kind, ranks[0], seed, tuning)
        for tuning in (0, 50)
        for kind in ("benign", "mixed")
        if kind in kinds
        for seed in range(seeds)
    ]
    return main + less


def looked_at(
    seeds: int, more: int, kinds: tuple[str, ...] = KINDS, ranks: tuple[int, ...] = RANKS
) -> list[Spec]:
    """Further training seeds whose weights alone are looked at: does a statistic tell poisoned from good."""
    return [Spec(kind, rank, seed) for kind in kinds for rank in ranks for seed in range(seeds, seeds + more)]
