"""Does pruning make planners safer? The whole experiment, stage by stage, each of which can be resumed.

    python benchmarks/evidence/run.py --data DATA --out OUT --base MODEL --devices cuda:0,cuda:1 --jobs 6

align    give the base model refusals: 0, 50 and 100 per cent of one tuning
check    does it refuse harmful prompts, and still answer harmless ones
train    planner adapters: six kinds, two ranks, three seeds; two kinds on the less tuned bases
prune    what each scorer prunes at each tau (CPU cores)
ask      attack success, over-refusal, utility and loss of every pruning
"""

from __future__ import annotations

import json
import time
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import suites
import torch
import typer
from align import align, load, own_answers
from ask import Asking, ask
from masked import MaskedAdapter
from prunings import Scoring, prune
from rich.console import Console
from spec import KINDS, looked_at, measured
from stages import note_time, run_missing
from train import Training, train

from s3lora_serve.demo.demo_base import prepare_demo_base
from s3lora_serve.judging.judge import prompt_outcome

STAGES = ("align", "check", "train", "prune", "ask")
console = Console(stderr=True)


def main(
    data: Annotated[Path, typer.Option(help="folder with safety/ and agent/")],
    out: Annotated[Path, typer.Option(help="folder for checkpoints, adapters and records")],
    base: Annotated[Path | None, typer.Option(help="model folder; the demo base if not given")] = None,
    devices: Annotated[str, typer.Option(help="comma-separated")] = "cuda:0"
    if torch.cuda.is_available()
    else "cpu",
    jobs: Annotated[int, typer.Option(help="processes on one device")] = 1,
    cores: Annotated[int, typer.Option(help="processes that score")] = 1,
    stages: Annotated[str, typer.Option(help="comma-separated, of " + ", ".join(STAGES))] = ",".join(STAGES),
    seeds: Annotated[int, typer.Option(help="training seeds that are asked")] = 3,
    more_seeds: Annotated[int, typer.Option(help="further ones whose weights are looked at")] = 2,
    kinds: Annotated[str, typer.Option(help="comma-separated")] = ",".join(KINDS),
    tokens: Annotated[int, typer.Option(help="in one batch of questions")] = 400_000
    if torch.cuda.is_available()
    else 8_192,
    steps: Annotated[int | None, typer.Option(help="stop training after so many steps: a rehearsal")] = None,
    limit: Annotated[int | None, typer.Option(help="questions of each set: a rehearsal")] = None,
) -> None:
    """Run the stages; what a stage has done before is not done again."""
    wanted = stages.split(",")
    if unknown := set(wanted) - set(STAGES):
        raise typer.BadParameter(f"no such stage: {', '.join(sorted(unknown))}")
    chosen = tuple(kinds.split(","))
    where = devices.split(",")
    for folder in ("adapters", "prunings", "records"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    if not (out / "base").exists():
        (out / "base").symlink_to((base or prepare_demo_base()).resolve())
    specs = measured(seeds, chosen)
    every = [*specs, *looked_at(seeds, more_seeds, chosen)]
    for stage in wanted:
        started = time.perf_counter()
        match stage:
            case "align":
                own_answers(out / "base", data, out / "own_answers.json", where[0], tokens, limit)
                for share in sorted({s.tuning for s in specs} - {0}):
                    align(
                        out / "base",
                        data,
                        out / "own_answers.json",
                        share / 100,
                        out / f"aligned-{share}",
                        where[0],
                        steps,
                        lambda done, total, loss: console.print(f"{done}/{total} {loss:.3f}"),
                    )
            case "check":
                _check(out, data, sorted({s.checkpoint for s in specs}), where[0], tokens, limit)
            case "train":
                run_missing("train", train, [Training(s, data, out, steps) for s in every], where, jobs)
            case "prune":
                todo = [Scoring(s, out, cells=s in specs) for s in every]
                run_missing("prune", prune, todo, ["cpu"], cores)
            case "ask":
                run_missing("ask", ask, [Asking(s, data, out, tokens, limit) for s in specs], where, jobs)
        seconds = time.perf_counter() - started
        console.print(f"{stage}: {seconds:.0f} s")
        note_time(out, stage, seconds, where, jobs)


def _check(
    out: Path, data: Path, checkpoints: list[str], device: str, tokens: int, limit: int | None
) -> None:
    """Verdicts of each base model without an adapter; a tuned one has to refuse, and still to answer."""
    if (out / "check.json").exists():
        return
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in checkpoints:
        model, tokenizer = load(out / name, device)
        asker = MaskedAdapter(model, tokenizer, {}, [()], tokens)
        suite = suites.suite(data, limit)
        found[name] = {}
        for of in (*suite.attacks, *suite.harmless):
            answers = asker.answers(list(of.messages()), suite.answer_tokens)[0]
            outcome = prompt_outcome(of, answers, words=0)
            shares = {verdict: outcome.share(verdict) for verdict in "rcb"}
            found[name][of.name] = shares
            console.print(name, of.name, {k: f"{v:.2f}" for k, v in shares.items()}, len(answers))
    (out / "check.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
