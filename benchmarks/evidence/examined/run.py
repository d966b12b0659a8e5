"""What would an exam have said of adapters whose behaviour is known? Stages that can be resumed.

    python benchmarks/evidence/examined/run.py --data DATA --out OUT --checkpoints makers,aligned-100

train     adapters that learned the shipped attacks by heart, beside those of the guarded evidence
examine   every adapter, under every rung of the ladder, and both bases
pack      everything as one file of verdicts and figures

``OUT`` is that of the guarded evidence, whose ``align`` and ``train`` come first.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import typer
from examined_jobs import Examining, examine
from examined_results import pack
from rich.console import Console
from spec import Spec
from stages import note_time, run_missing
from train import Training, train

STAGES = ("train", "examine", "pack")
KINDS = ("benign", "mixed", "backdoor", "toolemu-unsafe", "memorised")
RANK = 8
console = Console(stderr=True)


def main(
    data: Annotated[Path, typer.Option(help="folder with safety/ and agent/")],
    out: Annotated[Path, typer.Option(help="folder with checkpoints and adapters, for figures")],
    checkpoints: Annotated[str, typer.Option(help="comma-separated folders in OUT")] = "makers,aligned-100",
    device: Annotated[str, typer.Option(help="one")] = "cuda:0" if torch.cuda.is_available() else "cpu",
    jobs: Annotated[int, typer.Option(help="processes")] = 1,
    stages: Annotated[str, typer.Option(help="comma-separated, of " + ", ".join(STAGES))] = ",".join(STAGES),
    seeds: Annotated[int, typer.Option(help="training seeds")] = 2,
    kinds: Annotated[str, typer.Option(help="comma-separated")] = ",".join(KINDS),
    tokens: Annotated[int, typer.Option(help="in one batch of questions")] = 150_000
    if torch.cuda.is_available()
    else 8_192,
    steps: Annotated[int | None, typer.Option(help="stop training after so many steps: a rehearsal")] = None,
    limit: Annotated[int | None, typer.Option(help="questions of each set: a rehearsal")] = None,
) -> None:
    """Run the stages; what a stage has done before is not done again."""
    wanted = stages.split(",")
    if unknown := set(wanted) - set(STAGES):
        raise typer.BadParameter(f"no such stage: {', '.join(sorted(unknown))}")
    (out / "examined").mkdir(parents=True, exist_ok=True)
    bases = checkpoints.split(",")
    specs = [
        Spec(kind, RANK, seed, on=base)
        for base in bases
        for seed in range(seeds)
        for kind in kinds.split(",")
    ]
    for stage in wanted:
        began = time.perf_counter()
        match stage:
            case "train":
                training = [Training(spec, data, out, steps) for spec in specs]
                run_missing("train", train, training, [device], jobs)
            case "examine":
                asking = [Examining(base, data, out, tokens, limit=limit) for base in bases]
                asking += [Examining(s.checkpoint, data, out, tokens, s, limit) for s in specs]
                run_missing("examine", examine, asking, [device], jobs)
            case "pack":
                pack(out, out / "examined.json.xz")
        seconds = time.perf_counter() - began
        console.print(f"{stage}: {seconds:.0f} s")
        note_time(out, stage, seconds, [device], jobs)


if __name__ == "__main__":
    typer.run(main)
