"""What scoring costs: ``python benchmarks/scoring/run.py`` writes a dated table next to this file.

1. Scoring a Llama-3.1-8B-shaped adapter (rank 16, 7 projections × 32 layers, 224 modules, bfloat16, 84 MB)
   against loading and hashing the same file. The two take turns in one process.
2. Scoring against the released dense algorithm, module by module: the two float32 SVDs with which the
   authors' code decomposes the row- and the column-normalised ΔW. One module of every distinct shape is
   measured, nothing is extrapolated. That code goes on to a third SVD and 25 L1 norms, which are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

from s3lora_serve.spectral.lowrank import LowRank
from s3lora_serve.spectral.masvd import mas_svd
from s3lora_serve.spectral.released import EPSILON_NORM
from s3lora_serve.spectral.scorers import score

sys.path.insert(0, str(Path(__file__).parents[1]))
from llama_8b import LAYERS, SHAPES

if TYPE_CHECKING:
    from collections.abc import Callable

RANK, SCALING = 16, 2.0
DECAY = 0.05  # σ_r/σ₁ of B: what trained adapters show; flat random factors would be the easier case


def make_adapter(file: Path) -> None:
    """Random factors with a decaying spectrum, in PEFT's names."""
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in range(LAYERS):
        for projection, (out, inp) in SHAPES.items():
            basis = torch.linalg.qr(torch.randn(RANK, RANK, generator=g)).Q
            b = torch.randn(out, RANK, generator=g) * torch.logspace(0, 1, RANK, base=DECAY) @ basis / 50
            a = (torch.rand(RANK, inp, generator=g) - 0.5) * 2 / inp**0.5
            name = f"base_model.model.model.layers.{layer}.{projection}"
            tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"] = a.bfloat16(), b.bfloat16()
    save_file(tensors, file)


def load_and_hash(file: Path) -> dict[str, torch.Tensor]:
    """The yardstick: every tensor loaded, and the file's sha256."""
    tensors = load_file(file)
    with file.open("rb") as opened:
        hashlib.file_digest(opened, "sha256").hexdigest()
    return tensors


def modules_of(tensors: dict[str, torch.Tensor]) -> dict[str, LowRank]:
    """The adapter as scoring takes it."""
    names = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return {n: LowRank(tensors[f"{n}.lora_A.weight"], tensors[f"{n}.lora_B.weight"], SCALING) for n in names}


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mib() -> float:
    """The process's peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def against_load(file: Path, modules: dict[str, LowRank], rounds: int) -> list[str]:
    """Scoring and load + sha256 in turn."""
    before = peak_mib()
    score(modules)
    grown = peak_mib() - before
    size = file.stat().st_size / 2**20
    times: dict[str, list[float]] = {"load": [], "score": []}
    for _ in range(rounds):
        times["load"].append(seconds(lambda: load_and_hash(file)))
        times["score"].append(seconds(lambda: score(modules)))
    rows = ["| | median ms | fastest ms | median ÷ yardstick | fastest ÷ fastest |", "|---|---|---|---|---|"]
    labels = {"load": "yardstick: load + sha256", "score": "`score(modules)`, MAS-SVD"}
    for key, label in labels.items():
        middle, best = statistics.median(times[key]), min(times[key])
        ratios = f"{middle / statistics.median(times['load']):.2f} | {best / min(times['load']):.2f}"
        rows.append(f"| {label} | {middle * 1e3:.0f} | {best * 1e3:.0f} | {ratios} |")
    memory = (
        f"Peak memory grew by {grown:.0f} MiB while scoring a file of {size:.0f} MiB ({grown / size:.2f}×)."
    )
    return [*rows, "", memory]


def dense_spectra(module: LowRank) -> torch.Tensor:
    """MAS-SVD's SSI from the two full float32 SVDs that the released code takes, as it takes them."""
    delta = module.b.float() @ module.a.float()
    rows = torch.linalg.vector_norm(delta, dim=1, keepdim=True) + EPSILON_NORM
    cols = torch.linalg.vector_norm(delta, dim=0, keepdim=True) + EPSILON_NORM
    sigma_row = torch.linalg.svd(delta / rows, full_matrices=False).S[:RANK]
    sigma_col = torch.linalg.svd(delta / cols, full_matrices=False).S[:RANK]
    sigma = (sigma_row * sigma_col).sqrt()
    return sigma[0] / sigma.sum()


def against_dense(modules: dict[str, LowRank]) -> list[str]:
    """One module of every distinct shape; factor space is timed before and after each dense run."""
    rows = [
        "| ΔW | dense s | factor space, alone ms | in its batch ms | ÷ alone | ÷ in batch | SSI apart |",
        "|---|---|---|---|---|---|---|",
    ]
    for shape in dict.fromkeys(SHAPES.values()):
        same = {name: module for name, module in modules.items() if module.shape == shape}
        name, module = next(iter(same.items()))
        alone, batch = [], []

        def factor_space() -> None:
            alone.append(seconds(lambda: mas_svd({name: module})))  # noqa: B023
            batch.append(seconds(lambda: mas_svd(same)) / len(same))  # noqa: B023

        for _ in range(10):
            factor_space()
        start = time.perf_counter()
        dense_ssi = float(dense_spectra(module))
        dense = time.perf_counter() - start
        for _ in range(10):
            factor_space()
        one, share = statistics.median(alone), statistics.median(batch)
        apart = abs(dense_ssi - (mas_svd({name: module})[name].ssi or 0.0))
        rows.append(
            f"| {shape[0]}×{shape[1]} | {dense:.1f} | {one * 1e3:.2f} | {share * 1e3:.2f} "
            f"| {dense / one:,.0f} | {dense / share:,.0f} | {apart:.0e} |"
        )
        print(rows[-1], flush=True)
    return rows


def machine() -> str:
    """CPU, cores and versions, in one line."""
    info = Path("/proc/cpuinfo")
    named = [
        line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
    ]
    return (
        f"{os.cpu_count()}-core {platform.machine()} virtual machine, {named[0] if named else 'unknown'}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"load average {os.getloadavg()[0]:.1f} at the start"
    )


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--no-dense", action="store_true", help="skip the dense SVDs, which take minutes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / f"{date.today()}.md")
    options = parser.parse_args()
    lines = ["# Scoring", "", machine() + ".", ""]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapter_model.safetensors"
        make_adapter(file)
        modules = modules_of(load_and_hash(file))
        lines += [
            f"## {len(modules)} modules, {file.stat().st_size / 1e6:.0f} MB, against loading and hashing",
            "",
        ]
        lines += against_load(file, modules, options.rounds)
        print("\n".join(lines), flush=True)
        if not options.no_dense:
            lines += ["", "## Against the released dense algorithm", "", *against_dense(modules)]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
