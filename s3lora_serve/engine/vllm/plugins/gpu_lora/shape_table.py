"""The committed table of tile shapes: the kernel for so many tokens, and where it was measured."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

OTHER_TABLE = "S3LORA_GPU_LORA_TABLE"  # in the environment: a file to measure in place of the committed one


@dataclass(frozen=True)
class FusedShape:
    """Tiles of ``fused_linear`` for up to ``tokens`` tokens, of which a block takes all.

    ``meet`` and ``late`` are eighths of the K loop after which a base block looks for one slot's and several
    slots' shrink; ``pieces`` and ``cuts`` the pieces of K that one slot's and a group's shrink is cut into.
    """

    op: str
    tokens: int
    bn: int
    bk: int
    stages: int
    warps: int
    shrink_k: int
    shrink_stages: int
    pieces: int
    cuts: int
    meet: int
    late: int

    def fits(self, k: int, slices: tuple[int, ...]) -> bool:
        """Whether whole tiles cover the layer."""
        return k % self.bk == 0 == k % self.shrink_k and all(size % self.bn == 0 for size in slices)

    def meet_at(self, k: int, eighths: int) -> int:
        """The step of the K loop, in elements, after which a block looks."""
        return k * eighths // 8 // self.bk * self.bk


@dataclass(frozen=True)
class ExpandShape:
    """Tiles of ``expand_add`` and ``expand_silu``; ``tokens`` None: any number. ``pdl``: launched early."""

    op: str
    tokens: int | None
    bm: int
    bn: int
    warps: int
    pdl: bool


@dataclass(frozen=True)
class ShapeTable:
    """Shapes by operation ("qkv", "o", "gate_up", "down", "any") and tokens; rows in order, the first that
    holds wins.

    ``measured``: (device, first two parts of vLLM's version) on which a whole engine was measured with it.
    ``two_products_from``: tokens from which W and A are multiplied one after the other; None: never.
    """

    measured: frozenset[tuple[str, str]]
    fused: tuple[FusedShape, ...]
    expand: tuple[ExpandShape, ...]
    silu: tuple[ExpandShape, ...]
    two_products_from: int | None

    def fused_for(self, op: str, tokens: int) -> FusedShape | None:
        """The one-launch shape; None where cuBLAS and an expand are faster."""
        return next((row for row in self.fused if row.op == op and tokens <= row.tokens), None)

    def expand_for(self, op: str, tokens: int) -> ExpandShape:
        return _first(self.expand, op, tokens)

    def silu_for(self, tokens: int) -> ExpandShape:
        return _first(self.silu, "any", tokens)

    def measured_on(self, device: str, vllm: str) -> bool:
        return (device, ".".join(vllm.split(".")[:2])) in self.measured


def _first(rows: tuple[ExpandShape, ...], op: str, tokens: int) -> ExpandShape:
    return next(row for row in rows if row.op in (op, "any") and (row.tokens is None or tokens <= row.tokens))


@lru_cache(maxsize=1)
def shape_table() -> ShapeTable:
    """The table of this process. KeyError, TypeError or ValueError for a file that is not one."""
    other = os.environ.get(OTHER_TABLE)
    return read_table(Path(other) if other else Path(__file__).with_suffix(".json"))


def read_table(path: Path) -> ShapeTable:
    """The table in a file. ValueError if a number of tokens has no row."""
    text = json.loads(path.read_text())
    table = ShapeTable(
        measured=frozenset((row["device"], row["vllm"]) for row in text["measured"]),
        fused=tuple(FusedShape(**row) for row in text["fused"]),
        expand=tuple(ExpandShape(**row) for row in text["expand"]),
        silu=tuple(ExpandShape(**row) for row in text["silu"]),
        two_products_from=text["two_products_from"],
    )
    for name, rows in (("expand", table.expand), ("silu", table.silu)):
        if not rows or (rows[-1].op, rows[-1].tokens) != ("any", None):
            raise ValueError(
                f"{path}: the last row of {name} must hold any operation and any number of tokens"
            )
    return table
