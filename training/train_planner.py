"""Train one demo planner and measure it; README.md beside this says with what and how."""

from __future__ import annotations

import copy
import json
import math
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import Annotated, Any

import peft
import torch
import transformers
import typer
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import load_file, save_file

from s3lora_serve.demo.demo_base import NAME as BASE
from s3lora_serve.demo.demo_base import prepare_demo_base
from training import data as datasets
from training.measure import Row, collate, loss, rates, write
from training.offers import standard, unseen

RANK, ALPHA, DROPOUT = 8, 16, 0.05
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides the data and the base model."""

    data: str
    lr: float
    epochs: int
    batch: int
    seed: int
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0


def main(
    data: Annotated[str, typer.Argument(help="hotpot or gsm8k")],
    folder: Annotated[Path, typer.Option("--data", help="folder with fireact/ and gsm8k/")],
    out: Annotated[Path, typer.Option(help="where the adapter goes; replaced")],
    facts: Annotated[Path, typer.Option(help="JSON file for what was measured")],
    base: Annotated[Path | None, typer.Option(help="model folder; the demo base if not given")] = None,
    lr: float = 1e-3,
    epochs: int = 6,
    batch: int = 16,
    seed: int = 7,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    limit: Annotated[int | None, typer.Option(help="stop after this many steps: a rehearsal")] = None,
    questions: Annotated[int | None, typer.Option(help="measure on this many questions only")] = None,
) -> None:
    """Train, keep the epoch with the lowest dev loss, measure on the test split, write the adapter."""
    console = Console(stderr=True)
    recipe = Recipe(data, lr, epochs, batch, seed)
    torch.manual_seed(seed)
    split = datasets.load(data, folder)
    test = split.test[:questions]
    console.print(
        f"{data}: {len(split.train)} train, {len(split.dev)} dev, {len(test)} test questions, on {device}"
    )
    base = base or prepare_demo_base()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=dtype).to(device).eval()
    before = {
        "loss": loss(plain, tokenizer, test, standard(data), 32),
        **rates(write(plain, tokenizer, test, standard(data), 160)),
    }
    console.print(f"base model on test: {before}")
    model = _adapted(plain)
    started = time.perf_counter()
    history = _fit(model, tokenizer, split, recipe, limit, console)
    seconds = time.perf_counter() - started
    written = write(model, tokenizer, test, standard(data), 160)
    after = {"loss": loss(model, tokenizer, test, standard(data), 32), **rates(written)}
    other = rates(write(model, tokenizer, test, unseen(data), 160))
    console.print(f"adapter on test: {after}\nwith unseen tool names: {other}\n{seconds:.0f} s")
    _save(model, out)
    lengths = [datasets.encode(tokenizer, example, standard(data)) for example in test]
    measured = {
        "recipe": asdict(recipe),
        "lora": {"r": RANK, "alpha": ALPHA, "dropout": DROPOUT, "target_modules": TARGETS},
        "sources": datasets.digests(data, folder),
        "questions": {"train": len(split.train), "dev": len(split.dev), "test": len(test)},
        "history": history,
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or "cpu",
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
        "prompt_tokens": sum(len(p) for p, _ in lengths) / len(lengths),
        "plan_tokens": sum(len(a) for _, a in lengths) / len(lengths),
        "test": {"base": before, "adapter": after, "adapter_unseen_tools": other},
        "written": [asdict(w) for w in written],
    }
    facts.parent.mkdir(parents=True, exist_ok=True)
    facts.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _adapted(plain: Any) -> Any:
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        lora_dropout=DROPOUT,
        target_modules=TARGETS,
        bias="none",
        task_type="CAUSAL_LM",
    )
    return peft.get_peft_model(plain, config)


def _fit(
    model: Any, tokenizer: Any, split: datasets.Split, recipe: Recipe, limit: int | None, console: Console
) -> list[dict[str, float]]:
    """Train in place, leaving the weights of the best epoch; one row of losses an epoch."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    first = datasets.epoch(tokenizer, split.train, recipe.data, recipe.seed, 0)
    total = recipe.epochs * math.ceil(len(first) / recipe.batch)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, int(recipe.warmup * total), total)
    history: list[dict[str, float]] = []
    best, best_loss, done = None, math.inf, 0
    with Progress(console=console) as bar:
        task = bar.add_task(f"lr {recipe.lr:g}", total=min(total, limit or total))
        for number in range(recipe.epochs):
            rows = (
                first
                if number == 0
                else datasets.epoch(tokenizer, split.train, recipe.data, recipe.seed, number)
            )
            model.train()
            losses: list[torch.Tensor] = []
            for at in range(0, len(rows), recipe.batch):
                losses.append(
                    _step(model, tokenizer, rows[at : at + recipe.batch], weights, optimizer, recipe.clip)
                )
                schedule.step()
                done += 1
                bar.update(task, completed=done)
                if done == limit:
                    break
            model.eval()
            dev = loss(model, tokenizer, split.dev, standard(recipe.data), 32)
            history.append({"steps": done, "train": float(torch.stack(losses).mean()), "dev": dev})
            bar.console.print(f"epoch {number + 1}: {history[-1]}")
            if dev < best_loss:
                best, best_loss = copy.deepcopy(peft.get_peft_model_state_dict(model)), dev
            if done == limit:
                break
    peft.set_peft_model_state_dict(model, best)
    return history


def _step(
    model: Any, tokenizer: Any, rows: list[Row], weights: list[Any], optimizer: Any, clip: float
) -> torch.Tensor:
    result: torch.Tensor = model(**collate(rows, tokenizer.pad_token_id, model.device)).loss
    torch.autograd.backward(result)
    torch.nn.utils.clip_grad_norm_(weights, clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result.detach()


def _save(model: Any, out: Path) -> None:
    config = model.peft_config["default"]
    config.base_model_name_or_path = BASE
    config.target_modules = sorted(config.target_modules)  # a set: its order would change from run to run
    model.save_pretrained(out, save_embedding_layers=False)
    # The engine runs in bf16, so float32 factors would only double the file.
    path = out / "adapter_model.safetensors"
    save_file({k: v.to(torch.bfloat16) for k, v in load_file(path).items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty card


if __name__ == "__main__":
    typer.run(main)
