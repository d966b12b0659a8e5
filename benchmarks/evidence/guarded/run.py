"""Does a guard by the base make planners safe? Stage by stage, each of which can be resumed.

    python benchmarks/evidence/guarded/run.py --data DATA --out OUT --maker-base FOLDER

align    give SmolLM2 refusals, as for the first part
train    planner adapters of four kinds on both bases, r=8
judge    each base rules on every request, by the product's own judge
answer   each adapter answers all of them, unpruned and pruned
pack     everything as one file of verdicts and figures
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[2] / "guard_questions"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import typer
from align import align, own_answers
from guarded_jobs import Answering, Judging, answer, judge
from guarded_results import pack
from rich.console import Console
from spec import Spec
from stages import note_time, run_missing
from train import Training, train

from s3lora_serve.demo.demo_base import prepare_demo_base

STAGES = ("align", "train", "judge", "answer", "pack")
KINDS = ("benign", "mixed", "backdoor", "toolemu-unsafe")
RANK = 8
console = Console(stderr=True)


def main(
    data: Annotated[Path, typer.Option(help="folder with safety/ and agent/")],
    out: Annotated[Path, typer.Option(help="folder for checkpoints, adapters and figures")],
    maker_base: Annotated[Path | None, typer.Option(help="a model that its makers aligned")] = None,
    base: Annotated[Path | None, typer.Option(help="the one to tune; the demo base if not given")] = None,
    devices: Annotated[str, typer.Option(help="comma-separated")] = "cuda:0"
    if torch.cuda.is_available()
    else "cpu",
    jobs: Annotated[int, typer.Option(help="processes on one device")] = 1,
    stages: Annotated[str, typer.Option(help="comma-separated, of " + ", ".join(STAGES))] = ",".join(STAGES),
    seeds: Annotated[int, typer.Option(help="training seeds")] = 2,
    kinds: Annotated[str, typer.Option(help="comma-separated")] = ",".join(KINDS),
    tokens: Annotated[int, typer.Option(help="in one batch of questions")] = 400_000
    if torch.cuda.is_available()
    else 8_192,
    steps: Annotated[int | None, typer.Option(help="stop training after so many steps: a rehearsal")] = None,
    limit: Annotated[int | None, typer.Option(help="requests of each row: a rehearsal")] = None,
) -> None:
    """Run the stages; what a stage has done before is not done again."""
    wanted, where = stages.split(","), devices.split(",")
    if unknown := set(wanted) - set(STAGES):
        raise typer.BadParameter(f"no such stage: {', '.join(sorted(unknown))}")
    for folder in ("adapters", "judged", "answered"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    if not (out / "base").exists():
        (out / "base").symlink_to((base or prepare_demo_base()).resolve())
    checkpoints = ["aligned-100"]
    if maker_base is not None:
        checkpoints.append("makers")
        if not (out / "makers").exists():
            (out / "makers").symlink_to(maker_base.resolve())
    specs = [
        Spec(kind, RANK, seed, on=checkpoint)
        for seed in range(seeds)
        for kind in kinds.split(",")
        for checkpoint in checkpoints
    ]
    for stage in wanted:
        began = time.perf_counter()
        match stage:
            case "align":
                own_answers(out / "base", data, out / "own_answers.json", where[0], tokens, limit)
                align(
                    out / "base", data, out / "own_answers.json", 1.0, out / "aligned-100", where[0], steps,
                    lambda done, total, loss: console.print(f"{done}/{total} {loss:.3f}"),
                )  # fmt: skip
            case "train":
                run_missing("train", train, [Training(s, data, out, steps) for s in specs], where, jobs)
            case "judge":
                judging = [Judging(name, data, out, tokens, limit) for name in checkpoints]
                run_missing("judge", judge, judging, where, jobs)
            case "answer":
                answering = [Answering(spec, data, out, tokens, limit) for spec in specs]
                run_missing("answer", answer, answering, where, jobs)
            case "pack":
                pack(out, out / "guarded.json.xz")
        seconds = time.perf_counter() - began
        console.print(f"{stage}: {seconds:.0f} s")
        note_time(out, stage, seconds, where, jobs)


if __name__ == "__main__":
    typer.run(main)
