"""Held-out loss of an adapter as it is served: without the modules that the default policy prunes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import peft
import torch
import transformers
import typer

from s3lora_serve.adapters.peft.peft_format import read_peft, write_peft
from s3lora_serve.demo import prepare_demo_base
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top, plan
from s3lora_serve.spectral.scorers import score
from training import data as datasets
from training.measure import loss
from training.offers import standard


def main(
    data: Annotated[str, typer.Argument(help="hotpot or gsm8k")],
    folder: Annotated[Path, typer.Option("--data", help="folder with fireact/ and gsm8k/")],
    adapter: Annotated[Path, typer.Option(help="PEFT folder")],
    facts: Annotated[Path, typer.Option(help="JSON file of train_planner, which grows")],
    questions: int = 50,
    batch: int = 10,
) -> None:
    """Add ``served`` to the facts: the full adapter, the pruned one, and as control one pruned at random."""
    base = prepare_demo_base()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    test = datasets.load(data, folder).test[:questions]
    full = read_peft(adapter)
    found: dict[str, float] = {}
    for name, policy in (
        ("full", PrunePolicy(rule=Top(0))),
        ("pruned", PrunePolicy(rule=Top(10))),
        ("random_pruned", PrunePolicy(scorer="random", rule=Top(10))),
    ):
        drop = plan(score(full.modules, policy.scorer, seed=policy.seed), policy).pruned
        with tempfile.TemporaryDirectory() as place:
            kept = Path(place) / "kept"
            kept.mkdir()
            write_peft(kept, full, drop)
            plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            model = peft.PeftModel.from_pretrained(plain, kept).eval()
        found[name] = loss(model, tokenizer, test, standard(data), batch)
        typer.echo(f"{name}: {found[name]}")
    measured = json.loads(facts.read_text(encoding="utf-8"))
    measured["served"] = {"questions": len(test), "loss": found}
    facts.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
