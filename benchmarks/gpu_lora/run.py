"""Time LoRA on a GPU: engines without LoRA, with vLLM's kernels and with ours, side by side and in turn.

    python benchmarks/gpu_lora/run.py measure --out FOLDER [--minutes 9]   # resumes; writes after each call
    python benchmarks/gpu_lora/run.py float32 --out FOLDER                 # errors against a float32 forward
    python benchmarks/gpu_lora/run.py table FOLDER/times.jsonl > page.md   # anywhere
    python benchmarks/gpu_lora/run.py end --out FOLDER

It needs vLLM, this repository on PYTHONPATH and one GPU; nothing is installed or fetched. Engines stay up
between calls where the machine lets processes stay; else a call starts them anew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import lora_table
from lora_cells import BASE, ENGINES, ONE, PRUNED, Cell, Traffic, cells_of

ROOT = Path(__file__).parents[2]
START_SECONDS = 560
KEY = b"gpu-lora"
MIXED = Traffic("four adapters and base rows", ("full0", None, "full1", "full2", None, "full3"))
CHECKED = (
    (1, BASE),
    (1, ONE),
    (16, BASE),
    (16, ONE),
    (16, PRUNED[1]),
    (16, MIXED),
    (48, MIXED),
    (128, MIXED),
)


class Bench:
    """The engines that run, and the file of results."""

    def __init__(self, out: Path, engines: list[str], slots: int, memory: float, compile_cache: bool) -> None:
        self.out = out
        self.file = out / "times.jsonl"
        self._engines = engines
        self._options = [str(slots), str(memory)]
        self._cache = compile_cache
        self._open: dict[str, Any] = {}

    def start(self) -> None:
        """Connect to the engines that run, and start the others, all at once; RuntimeError if one does not
        come."""
        import lora_adapters

        if len(str(self.out)) > 90:
            raise RuntimeError(f"{self.out}: a socket's path has at most 107 bytes; give a shorter --out")
        self.out.mkdir(parents=True, exist_ok=True)
        lora_adapters.write_base(self.out / "base")
        waiting = [kind for kind in self._engines if not self._connect(kind)]
        started = {}
        for kind in waiting:
            started[kind] = self._spawn(kind)
            time.sleep(2)  # each looks how much memory is free
        lora_adapters.write_adapters(self.out / "adapters", "cuda")  # while they start
        until = time.monotonic() + START_SECONDS
        while waiting:
            time.sleep(1)
            for kind in list(waiting):
                if self._connect(kind):
                    waiting.remove(kind)
                    self.write({"kind": "engine", "engine": kind, **self.ask(kind, do="hello")})
                elif started[kind].poll() is not None or time.monotonic() > until:
                    tail = (self.out / f"{kind}.log").read_text()[-3000:]
                    raise RuntimeError(f"the engine {kind} did not start:\n{tail}")

    def ask(self, kind: str, **call: Any) -> dict[str, Any]:
        """One call's answer. RuntimeError with what the engine says of a failure."""
        self._open[kind].send(call)
        answer: dict[str, Any] = self._open[kind].recv()
        if "error" in answer:
            raise RuntimeError(f"{kind}: {answer['error']}")
        return answer

    def generate(self, kind: str, adapters: list[str | None], *rest: Any) -> dict[str, Any]:
        """Adapters into their slots, then one timed batch."""
        self.ask(kind, do="hold", names=sorted({name for name in adapters if name is not None}))
        return self.ask(kind, do="generate", arguments=(adapters, *rest))

    def write(self, row: dict[str, Any]) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def end(self) -> None:
        for kind in self._engines:
            if self._connect(kind):
                self._open[kind].send({"do": "end"})

    def _connect(self, kind: str) -> bool:
        try:
            self._open[kind] = Client(str(self.out / f"{kind}.sock"), "AF_UNIX", authkey=KEY)
        except (OSError, EOFError):
            return False
        return True

    def _spawn(self, kind: str) -> subprocess.Popen[bytes]:
        plugins = {"s3lora_bench_weights": "spread_weights:register"}
        if kind == "ours":
            plugins["s3lora_gpu_lora"] = "s3lora_serve.engine.vllm.plugins.gpu_lora.plugin:register"
        paths = [_distribution(self.out / f"{kind}-plugins", plugins), ROOT, Path(__file__).parent]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")]),
            "S3LORA_GPU_LORA": os.environ.get("S3LORA_GPU_LORA", "on") if kind == "ours" else "off",
            "VLLM_DISABLE_COMPILE_CACHE": "0" if self._cache else "1",
            "VLLM_CACHE_ROOT": str(self.out / f"{kind}-cache"),
            "TRITON_CACHE_DIR": str(self.out / "triton"),
            "VLLM_USE_FLASHINFER_SAMPLER": "0",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }
        with (self.out / f"{kind}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, Path(__file__).with_name("lora_engine.py"), kind, self.out, *self._options],
                env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip


def _distribution(folder: Path, plugins: dict[str, str]) -> Path:
    """A folder that makes vLLM's processes find plugins, as an installed package would."""
    info = folder / "s3lora_bench-1.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: s3lora-bench\nVersion: 1\n")
    lines = "\n".join(f"{name} = {target}" for name, target in plugins.items())
    (info / "entry_points.txt").write_text(f"[vllm.general_plugins]\n{lines}\n")
    return folder


def measure(bench: Bench, rounds: int, minutes: float, batches: tuple[int, ...]) -> None:
    """Rounds from where an earlier call stopped; within one, cells in an order of chance. Round -1 warms,
    untimed."""
    until = time.monotonic() + 60 * minutes
    bench.start()
    done = lora_table.read(bench.file)[0] if bench.file.exists() else {}
    engines = set(bench._engines)
    for cell in [c for c in cells_of(0, batches) if c.engine in engines]:
        if time.monotonic() < until:
            _run(bench, cell, tokens_out=min(16, cell.shape[2]))
    for number in range(rounds):
        cells = [
            c for c in cells_of(number, batches) if c.engine in engines and number not in done.get(c.key, {})
        ]
        random.Random(number).shuffle(cells)
        for cell in cells:
            if time.monotonic() > until:
                print(f"stopped in round {number}: the minutes are over; call again to go on", flush=True)
                return
            bench.write({"cell": cell.key, "round": number, "seconds": _run(bench, cell)})
        print(f"round {number} done", flush=True)
        if number % 5 == 4:
            print(lora_table.page(*lora_table.read(bench.file)), flush=True)


def _run(bench: Bench, cell: Cell, tokens_out: int | None = None) -> float:
    requests, tokens_in, out = cell.shape
    answer = bench.generate(cell.engine, cell.traffic.of(requests), tokens_in, tokens_out or out, requests)
    return float(answer["seconds"])


def against_float32(bench: Bench) -> None:
    """Log-probabilities of each engine's own tokens, against a float32 forward over them."""
    import torch
    from float32_forward import Float32Model

    bench.start()
    model = Float32Model(bench.out / "adapters")
    for requests, traffic in CHECKED:
        adapters = traffic.of(requests)
        for engine in [kind for kind in bench._engines if kind != "none"]:
            found = bench.generate(engine, adapters, 128, 48, requests, True)
            generator = torch.Generator().manual_seed(requests)
            prompts = [torch.randint(100, 120000, (128,), generator=generator) for _ in range(requests)]
            tokens = torch.cat([torch.stack(prompts), torch.tensor(found["tokens"])], 1).cuda()
            errors, own = [], []
            for at in range(
                0, requests, 32
            ):  # float32 scores of all at once would not fit beside the engines
                truth, likeliest = model.logprobs(tokens[at : at + 32], adapters[at : at + 32], 128)
                errors.append((torch.tensor(found["logprobs"][at : at + 32]) - truth.cpu()).abs())
                own.append(likeliest.float().cpu())
            error, argmax = torch.cat(errors), torch.cat(own)
            row = {
                "kind": "float32", "requests": requests, "traffic": traffic.name, "engine": engine,
                "mean": error.mean().item(), "max": error.max().item(), "argmax": argmax.mean().item(),
                "base_rows": _mean_of(error, [i for i, each in enumerate(adapters) if each is None]),
            }  # fmt: skip
            bench.write(row)
            print(row, flush=True)


def _mean_of(error: Any, rows: list[int]) -> float | None:
    return error[rows].mean().item() if rows else None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table")
    table.add_argument("files", type=Path, nargs="+")
    for name in ("measure", "float32", "end"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, required=True)
        command.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
        command.add_argument("--slots", type=int, default=4)
        command.add_argument(
            "--memory", type=float, default=0.2, help="share of the GPU's memory for each engine"
        )
        command.add_argument("--rounds", type=int, default=16)
        command.add_argument("--compile-cache", action="store_true", help="vLLM's, which is off else")
        command.add_argument(
            "--minutes", type=float, default=9, help="stop after so long, the start included"
        )
        command.add_argument(
            "--batches", type=int, nargs="+", default=[1, 16, 32, 128, 0], help="0 is the prefill"
        )
    asked = parser.parse_args()
    if asked.command == "table":
        for file in asked.files:
            print(lora_table.page(*lora_table.read(file)))
        return 0
    bench = Bench(asked.out.resolve(), asked.engines, asked.slots, asked.memory, asked.compile_cache)
    if asked.command == "measure":
        measure(bench, asked.rounds, asked.minutes, tuple(asked.batches))
    elif asked.command == "float32":
        against_float32(bench)
    else:
        bench.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
