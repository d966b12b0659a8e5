"""Fine-tuning on pairs of a chat prompt and the answer to give."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import peft
import torch
from pairs import encode
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import get_cosine_schedule_with_warmup

from training.measure import Row, collate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pairs import Pair

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights besides the pairs and the model under them."""

    rank: int
    lr: float
    epochs: int
    seed: int
    batch: int = 16
    dropout: float = 0.05
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0

    @property
    def alpha(self) -> int:
        """LoRA's alpha: twice the rank, so that both ranks train at one scaling."""
        return 2 * self.rank


def fit(
    model: Any,
    tokenizer: Any,
    pairs_of: Callable[[int], Sequence[Pair]],
    recipe: Recipe,
    limit: int | None = None,
    told: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> Any:
    """``model`` with a trained adapter on all its linear layers; ``pairs_of(epoch)`` are shuffled here.

    Stops after ``limit`` steps, if given. ``told`` gets steps done, steps in all and the last loss.
    """
    torch.manual_seed(recipe.seed)
    adapted = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=LINEAR,
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
    weights = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=(0.9, 0.98))
    rows = _rows(tokenizer, pairs_of(0), recipe.seed, 0)
    total = recipe.epochs * math.ceil(len(rows) / recipe.batch)
    schedule = get_cosine_schedule_with_warmup(optimizer, int(recipe.warmup * total), total)
    done = 0
    adapted.train()
    for epoch in range(recipe.epochs):
        if epoch:
            rows = _rows(tokenizer, pairs_of(epoch), recipe.seed, epoch)
        for at in range(0, len(rows), recipe.batch):
            if done == min(total, limit or total):
                break
            loss = answer_loss(adapted.get_base_model(), tokenizer, rows[at : at + recipe.batch])
            torch.autograd.backward(loss)
            norm = torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
            if torch.isfinite(norm):  # bfloat16 overflows in some: such a step would end the adapter
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if done + 1 < total:
                schedule.step()
            done += 1
            if done % 20 == 0:
                told(done, total, float(loss.detach()))
    return adapted.eval()


def answer_loss(model: Any, tokenizer: Any, rows: Sequence[Row]) -> torch.Tensor:
    """Mean negative log-likelihood of an answer token, nats; logits are made of these tokens alone."""
    batch = collate(rows, tokenizer.pad_token_id, model.device)
    hidden = model.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
    ).last_hidden_state
    wanted = batch["labels"][:, 1:]
    asked = wanted != -100
    logits = model.lm_head(hidden[:, :-1][asked]).float()  # [answer tokens, vocabulary]
    return functional.cross_entropy(logits, wanted[asked])


def save(adapted: Any, base: str, folder: Path) -> None:
    """Write the adapter in PEFT's format, factors in bf16 as engines compute with them; names ``base``."""
    config = adapted.peft_config["default"]
    config.base_model_name_or_path = base
    config.target_modules = sorted(config.target_modules)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    path = folder / "adapter_model.safetensors"
    save_file(
        {k: v.to(torch.bfloat16).contiguous() for k, v in load_file(path).items()},
        path,
        metadata={"format": "pt"},
    )
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty card


def _rows(tokenizer: Any, pairs: Sequence[Pair], seed: int, epoch: int) -> list[Row]:
    order = list(pairs)
    random.Random(f"{seed}:{epoch}").shuffle(order)
    return [encode(tokenizer, pair) for pair in order]
