"""Compile every kernel variant of the table for Hopper on a machine without a GPU, and show what each takes.

    python benchmarks/gpu_lora/compile_offline.py [--slots 4] [--rank 16] [--only fused]

Type errors, too much shared memory and spilled registers show here, not on the GPU's time.
Needs Triton's CUDA backend alone (its wheel brings ptxas). Exit code 1 if a variant does not compile or fit.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, str(Path(__file__).parents[2]))
from s3lora_serve.engine.vllm.plugins.gpu_lora import expand_add, expand_silu, fused_linear
from s3lora_serve.engine.vllm.plugins.gpu_lora.lora_tile import slots_a_product
from s3lora_serve.engine.vllm.plugins.gpu_lora.shape_table import ShapeTable, shape_table

HOPPER = GPUTarget("cuda", 90, 32)
BLOCK_BYTES = 227 << 10  # shared memory that one block can have
PARTS = {"qkv": 3, "o": 1, "down": 1, "gate_up": 2, "any": 2}
POINTERS = {"s": "*fp32", "state": "*i32", "clear": "*i32", "slot": "*i32", "error": "*i32"}
ALIGNED = (
    "N",
    "K",
    "HALF",
    "e1",
    "e2",
    "stride_x",
    "stride_y",
    "meet",
    "late",
)  # multiples of 16, as in a model


@dataclass(frozen=True)
class Variant:
    """One kernel with its compile-time values."""

    name: str
    kernel: Any
    values: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class Taken:
    """What a compiled variant takes of the chip."""

    shared: int
    registers: int
    spilled: int  # bytes
    seconds: float

    @property
    def fits(self) -> bool:
        return self.shared <= BLOCK_BYTES


def variants(table: ShapeTable, slots: int, rank: int) -> list[Variant]:
    """Every variant that a model of Llama's or Qwen2's layers can ask of the table."""
    common = {"S": slots, "R": rank, "SLOTS": slots_a_product(slots, rank)}
    found = []
    for row in table.fused:
        for bias in (False, True) if row.op == "qkv" else (False,):
            values = {
                **common, "PARTS": PARTS[row.op], "BM": row.tokens, "BN": row.bn, "BK": row.bk,
                "STAGES": row.stages, "SK": row.shrink_k, "SSTAGES": row.shrink_stages,
                "PIECES": row.pieces, "CUTS": row.cuts,
                "HELPERS": fused_linear.HELP, "FLAG0": fused_linear.FLAGS, "NUMBER_AT": fused_linear.NUMBER,
                "BIAS": bias, "LIMIT": fused_linear.SPINS, "TRAP": True,
            }  # fmt: skip
            name = f"fused {row.op} <= {row.tokens}{' bias' if bias else ''}"
            found.append(Variant(name, fused_linear.fused_linear_kernel, values, {"num_warps": row.warps}))
    for row in table.expand:
        values = {**common, "BM": row.bm, "BN": row.bn, "PDL": row.pdl}
        options = {"num_warps": row.warps, **({"launch_pdl": True} if row.pdl else {})}
        found.append(Variant(f"add {row.op} <= {row.tokens}", expand_add.expand_add_kernel, values, options))
    for row in table.silu:
        for lora in (False, True):
            values = {**common, "BM": row.bm, "BN": row.bn, "LORA": lora}
            name = f"silu <= {row.tokens}{'' if lora else ' base'}"
            found.append(Variant(name, expand_silu.expand_silu_kernel, values, {"num_warps": row.warps}))
    return found


def compiled(variant: Variant) -> Taken:
    """Compile it. Whatever Triton or ptxas raise."""
    names = variant.kernel.arg_names
    kinds = {n: "constexpr" if n in variant.values else POINTERS.get(n, "i32") for n in names}
    kinds |= {n: "*bf16" for n in ("x", "w", "bias", "b", "y", "out") if n in kinds}
    attrs = {
        (i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if kinds[n][0] == "*" or n in ALIGNED
    }
    constants = {(names.index(n),): value for n, value in variant.values.items()}
    source = ASTSource(fn=variant.kernel, signature=kinds, constexprs=constants, attrs=attrs)
    start = time.perf_counter()
    built = triton.compile(source, target=HOPPER, options=variant.options)
    registers, spilled = _resources(built.asm["ptx"])
    return Taken(built.metadata.shared, registers, spilled, time.perf_counter() - start)


def _resources(ptx: str) -> tuple[int, int]:
    """Registers a thread and bytes spilled, as ptxas says."""
    binary = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.ptx")
        file.write_text(ptx)
        out = subprocess.run(
            [binary, "-v", "-arch=sm_90a", file, "-o", file.with_suffix(".cubin")],
            capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", out))
    return int(re.findall(r"Used (\d+) registers", out)[-1]), spilled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--only", default="", help="variants whose name contains this")
    asked = parser.parse_args()
    bad = 0
    for variant in variants(shape_table(), asked.slots, asked.rank):
        if asked.only not in variant.name:
            continue
        try:
            taken = compiled(variant)
        except Exception as error:
            bad += 1
            print(f"{variant.name}: {type(error).__name__}: {error}", flush=True)
            continue
        bad += not taken.fits
        print(
            f"{variant.name}: shared {taken.shared / 1024:.0f} KiB{'' if taken.fits else ' DOES NOT FIT'}, "
            f"{taken.registers} registers, {taken.spilled} bytes spilled, {taken.seconds:.1f} s",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
