"""What admission costs, against loading and hashing the same file: ``python benchmarks/admission/run.py``.

The adapter has the shape of Llama-3.1-8B: rank 16, 7 projections × 32 layers, 224 modules, bfloat16, 84 MB.
All variants run in turn, round after round, in one process, so that they meet the same machine; medians are
reported. Peak memory is measured in a process of its own. Writes a table next to this file."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from adapters_factory import adapter_limits
from safetensors.torch import load_file, save_file

from s3lora_serve.adapters.admission import admit
from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.peft.peft_format import read_peft
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top
from s3lora_serve.spectral.scorers import score

sys.path.insert(0, str(Path(__file__).parents[1]))
from llama_8b import LAYERS, SHAPES

RANK = 16
BASE = BaseModelSpec(
    "llama-3.1-8b-shaped",
    {f"model.layers.{layer}.{name}": shape for layer in range(LAYERS) for name, shape in SHAPES.items()},
)
STAGES = ("fetch", "verify", "score", "prune", "publish")
NOTE = (
    "Fetching is bound by sha256, which runs beside the copy; verifying reads every weight once; pruning",
    "writes and hashes the kept weights anew (`observe` moves the file and waits for the disk); publishing",
    "writes the lineage.",
)
PRUNED, WHOLE = PrunePolicy(rule=Top(10)), PrunePolicy(rule=Top(10), action="observe")


def make_adapter(folder: Path) -> Path:
    """A random adapter as PEFT's save_pretrained would leave it."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, (out, inputs) in BASE.shapes.items():
        a, b = torch.randn(RANK, inputs, generator=generator), torch.randn(out, RANK, generator=generator)
        tensors[f"base_model.model.{name}.lora_A.weight"] = (a / inputs**0.5).bfloat16()
        tensors[f"base_model.model.{name}.lora_B.weight"] = (b / 50).bfloat16()
    folder.mkdir()
    targets = sorted({name.rpartition(".")[2] for name in SHAPES})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def load_and_hash(weights: Path) -> None:
    """The baseline: what any server does that knows which file it serves."""
    load_file(weights)
    with weights.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def timed_admission(source: Path, policy: PrunePolicy, store: RevisionStore) -> dict[str, float]:
    """Seconds by stage, of the whole (``total``), and of waiting for the disk (``fsync``, part of them)."""
    marks: dict[str, float] = {}
    waited, real = 0.0, os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal waited
        start = time.perf_counter()
        real(descriptor)
        waited += time.perf_counter() - start

    os.fsync = fsync
    try:
        start = time.perf_counter()
        admit(
            str(source), base=BASE, policy=policy, limits=adapter_limits(), store=store,
            progress=lambda stage, fraction: marks.setdefault(stage, time.perf_counter()),
        )  # fmt: skip
        end = time.perf_counter()
    finally:
        os.fsync = real
    starts = [start, *(marks.get(stage, end) for stage in STAGES[1:]), end]
    seconds = {stage: starts[i + 1] - starts[i] for i, stage in enumerate(STAGES)}
    return seconds | {"total": end - start, "fsync": waited}


def peak_memory(source: Path, what: str) -> float:
    """Bytes that the process grew by at its peak, everything imported and warmed up before."""
    line = [sys.executable, __file__, "--peak", what, str(source)]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def measure_peak(source: Path, what: str) -> int:
    """In the child: reset the high-water mark (Linux), do ``what``, and return the growth in bytes."""
    score({"x": next(iter(read_peft(source).modules.values()))})  # starts torch's threads

    def status(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    with tempfile.TemporaryDirectory(dir=source.parent) as root:
        if what == "baseline":
            load_and_hash(source / "adapter_model.safetensors")
        else:
            policy = PRUNED if what == "pruned" else WHOLE
            admit(
                str(source),
                base=BASE,
                policy=policy,
                limits=adapter_limits(),
                store=RevisionStore(Path(root)),
            )
        return status("VmHWM") - before


def rounds(source: Path, count: int) -> dict[str, list[dict[str, float]]]:
    """Every variant once per round, interleaved; the first round warms up and is dropped."""
    results: dict[str, list[dict[str, float]]] = {}
    modules = read_peft(source).modules
    for _ in range(count + 1):
        with tempfile.TemporaryDirectory(dir=source.parent) as root:
            store = RevisionStore(Path(root))
            variants = {
                "baseline": lambda: load_and_hash(source / "adapter_model.safetensors"),
                "scoring": lambda: score(modules),
                "pruned": lambda store=store: timed_admission(source, PRUNED, store),
                "again": lambda store=store: timed_admission(source, PRUNED, store),
                "whole": lambda store=store: timed_admission(source, WHOLE, store),
            }
            for name, run in variants.items():
                start = time.perf_counter()
                found = run()
                seconds = found if isinstance(found, dict) else {"total": time.perf_counter() - start}
                results.setdefault(name, []).append(seconds)
    return {name: times[1:] for name, times in results.items()}


def median(times: list[dict[str, float]], stage: str = "total") -> float:
    """Median seconds of one stage."""
    return statistics.median(each.get(stage, 0.0) for each in times)


def table(results: dict[str, list[dict[str, float]]], size: int, peaks: dict[str, float]) -> str:
    """The whole page."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in info if "model name" in line), platform.processor())
    names = {
        "baseline": "safetensors load + sha256",
        "scoring": "scoring alone (`mas-svd`)",
        "pruned": "admission, 10 modules pruned (weights rewritten)",
        "whole": "admission, `observe` (weights moved into place)",
        "again": "the same admission again (fetched, hashed, found)",
    }
    lines = [
        "# What admission costs",
        "",
        f"A Llama-3.1-8B-shaped adapter: rank 16, 224 modules, bfloat16, {size / 1e6:.1f} MB. "
        f"Medians of {len(results['baseline'])} interleaved rounds; × is the median of the rounds'.",
        "",
        f"{date.today()}, {cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads; "
        f"Python {platform.python_version()}, torch {version('torch')}, "
        f"safetensors {version('safetensors')}.",
        "",
        "| | ms | × baseline | range of × |",
        "|---|---|---|---|",
    ]
    for name in names:
        pairs = zip(results["baseline"], results[name], strict=True)
        ratios = [found["total"] / base["total"] for base, found in pairs]
        cells = f"{median(results[name]) * 1e3:.0f} | {statistics.median(ratios):.2f}"
        lines.append(f"| {names[name]} | {cells} | {min(ratios):.2f}–{max(ratios):.2f} |")
    lines += ["", "## Where the time goes", "", "| ms | " + " | ".join(STAGES) + " | of which fsync |"]
    lines += ["|---|" + "---|" * (len(STAGES) + 1)]
    for name in ("pruned", "whole"):
        cells = [f"{median(results[name], stage) * 1e3:.0f}" for stage in (*STAGES, "fsync")]
        lines.append(f"| {names[name]} | " + " | ".join(cells) + " |")
    lines += ["", *NOTE]
    lines += ["", "## Peak memory", "", "| | MB over the idle process | × file |", "|---|---|---|"]
    for name, peak in peaks.items():
        lines.append(f"| {names[name]} | {peak / 1e6:.0f} | {peak / size:.2f} |")
    lines += ["", "Pages of mapped files count as memory here; all files are in the page cache throughout."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, and write ``<date>.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / f"{date.today()}.md")
    parser.add_argument("--peak", nargs=2, metavar=("WHAT", "SOURCE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(measure_peak(Path(options.peak[1]), options.peak[0]))
        return
    with tempfile.TemporaryDirectory() as root:
        source = make_adapter(Path(root) / "source")
        size = (source / "adapter_model.safetensors").stat().st_size
        results = rounds(source, options.rounds)
        peaks = {what: peak_memory(source, what) for what in ("baseline", "pruned", "whole")}
    page = table(results, size, peaks)
    print(page)
    options.out.write_text(page)


if __name__ == "__main__":
    main()
