"""The aligned checkpoint: refusals given to a base model by a LoRA fine-tune, merged into its weights."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import harmless
import peft
import torch
import xstest
from fit import Recipe, fit, save
from masked import MaskedAdapter
from pairs import Pair, chat
from refusals import refusal_pairs
from transformers import AutoModelForCausalLM, AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from s3lora_serve.judging.outcomes import Answer
    from s3lora_serve.judging.suite import Messages

RECIPE = Recipe(rank=32, lr=3e-4, epochs=3, seed=0)
_CHATS, _TASKS = 600, 300
_END_OF_TURN = "<|im_end|>"
OWN_TOKENS = 96  # of the base model's own answers to harmless prompts


def own_answers(
    base: Path, data: Path, out: Path, device: str, tokens: int, limit: int | None = None
) -> None:
    """Write the base model's own answers to harmless prompts: they keep it answering while it is tuned."""
    if out.exists():
        return
    model, tokenizer = load(base, device)
    asker = MaskedAdapter(model, tokenizer, {}, [()], tokens)
    asked = _harmless(data)[:limit]
    answers = asker.answers(asked, OWN_TOKENS)[0]
    kept = [
        {"messages": list(chat), "answer": text}
        for chat, answer in zip(asked, answers, strict=True)
        if (text := _whole(answer))
    ]
    out.write_text(json.dumps(kept), encoding="utf-8")


def align(
    base: Path,
    data: Path,
    own: Path,
    share: float,
    out: Path,
    device: str,
    limit: int | None = None,
    told: Callable[[int, int, float], None] = lambda done, total, loss: None,
) -> None:
    """Write base + refusals to ``out``, float32: ``share`` of the refusal tuning's pairs, 0..1.

    float32 because the difference of two checkpoints is what e-diem and safelora project on, and rounding to
    bf16 would be a part of it. Models are loaded in bf16 on a GPU all the same.
    """
    if (out / "config.json").exists():
        return
    model, tokenizer = load(base, device)
    pairs = _share(tuning_pairs(data, own), share)
    adapted = fit(model, tokenizer, lambda epoch: pairs, RECIPE, limit, told)
    folder = out.with_name(out.name + "-lora")
    save(adapted, base.name, folder)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(plain, folder).merge_and_unload()
    merged.save_pretrained(out)
    tokenizer.save_pretrained(out)


def tuning_pairs(data: Path, own: Path) -> list[Pair]:
    """Refusals of harmful prompts, and the base model's own answers to harmless ones."""
    answered = [
        Pair(tuple(row["messages"]), row["answer"], "harmless")
        for row in json.loads(own.read_text(encoding="utf-8"))
    ]
    return [*refusal_pairs(data, RECIPE.seed), *answered]


def load(folder: Path, device: str) -> tuple[Any, Any]:
    """Model and tokenizer; bf16 on a GPU, float32 on a CPU. A chat's turn ends an answer."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if _END_OF_TURN in tokenizer.get_vocab():  # converted files may name another end, or no padding
        tokenizer.eos_token = _END_OF_TURN
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return model, tokenizer


def _harmless(data: Path) -> list[Messages]:
    """Chats of everyday questions and of XSTest's safe look-alikes, and planners' tasks."""
    safe = xstest.load(data).safe_train
    chats = [chat(prompt) for prompt in (*harmless.load(data).train[:_CHATS], *safe, *safe)]
    found = chats + harmless.planner_prompts(data, RECIPE.seed)[:_TASKS]
    return random.Random(RECIPE.seed).sample(found, len(found))  # so that a share of them has every form


def _whole(answer: Answer) -> str:
    """The answer, or its whole sentences or lines if it was cut: training ends it there."""
    text = answer.text.strip()
    return text if answer.ended else text[: max(text.rfind(". "), text.rfind("\n"), -1) + 1].strip()


def _share(pairs: Sequence[Pair], share: float) -> list[Pair]:
    """Every kind of pair cut to its first ``share``; a smaller share is a part of a larger one."""
    kinds = sorted({pair.kind for pair in pairs})
    return [
        pair
        for kind in kinds
        for of_kind in [[p for p in pairs if p.kind == kind]]
        for pair in of_kind[: round(share * len(of_kind))]
    ]
