"""What a planner is worth on questions it has not seen: loss, and plans written without a grammar."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from planners import Plan, PlanSyntaxError, parse, render_messages
from training.arithmetic import evaluate
from training.data import MAX_STEPS, encode, request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from training.example import Example
    from training.offers import Offer

Row = tuple[list[int], list[int]]
MAX_NEW_TOKENS = 320


@dataclass(frozen=True)
class Written:
    """One greedy answer. ``why`` names the first fault; ``right`` is None where nobody can run the plan."""

    task: str
    text: str
    why: str | None
    steps: int
    references: int
    right: bool | None


def collate(rows: Sequence[Row], pad: int, device: str) -> dict[str, torch.Tensor]:
    """Right-padded batch; ``labels`` cover the answer only."""
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), width), pad)  # [batch, width]
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        ids[i, :end] = torch.tensor(prompt + answer)
        mask[i, :end] = 1
        labels[i, len(prompt) : end] = torch.tensor(answer)
    return {k: v.to(device) for k, v in (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}


@torch.inference_mode()
def loss(model: Any, tokenizer: Any, examples: Sequence[Example], offer: Offer, batch: int) -> float:
    """Mean negative log-likelihood of an answer token, nats."""
    rows = [encode(tokenizer, example, offer) for example in examples]
    total, count = 0.0, 0
    for at in range(0, len(rows), batch):
        inputs = collate(rows[at : at + batch], tokenizer.pad_token_id, model.device)
        tokens = int((inputs["labels"][:, 1:] != -100).sum())
        total += float(model(**inputs).loss) * tokens
        count += tokens
    return total / count


@torch.inference_mode()
def write(
    model: Any,
    tokenizer: Any,
    examples: Sequence[Example],
    offer: Offer,
    batch: int,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Written]:
    """Greedy plans without a grammar, in the order of ``examples``."""
    tokenizer.padding_side = "left"
    written: list[Written] = []
    for at in range(0, len(examples), batch):
        part = examples[at : at + batch]
        prompts = [
            tokenizer.apply_chat_template(
                render_messages(request(example, offer)), tokenize=False, add_generation_prompt=True
            )
            for example in part
        ]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(
            model.device
        )
        output = model.generate(
            **inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        new = output[:, inputs["input_ids"].shape[1] :]
        for example, ids in zip(part, new.tolist(), strict=True):
            ended = tokenizer.eos_token_id in ids
            text = tokenizer.decode(ids[: ids.index(tokenizer.eos_token_id)] if ended else ids)
            written.append(_judge(example, text, offer, ended))
        progress(len(written))
    return written


def rates(written: Sequence[Written]) -> dict[str, float]:
    """Shares of valid plans, of plans that use a result and of plans that give the answer; mean steps."""
    rates = {
        "valid": _share(written, lambda w: w.why is None),
        "with_references": _share(written, lambda w: w.references > 0),
        "steps": sum(w.steps for w in written) / len(written),
    }
    if any(w.right is not None for w in written):
        rates["right_when_run"] = _share(written, lambda w: bool(w.right))
    return {key: round(value, 4) for key, value in rates.items()}


def _share(written: Sequence[Written], holds: Callable[[Written], bool]) -> float:
    return sum(map(holds, written)) / len(written)


def _judge(example: Example, text: str, offer: Offer, ended: bool) -> Written:
    calculator = offer.tool_of.get("calculator")
    right = None if calculator is None else False
    cut = None if ended else f"not ended after {MAX_NEW_TOKENS} tokens"
    try:
        plan = parse(text)
    except PlanSyntaxError as error:
        return Written(example.task, text, cut or str(error), 0, 0, right)
    why = next((str(problem) for problem in plan.problems(offer.tools, max_steps=MAX_STEPS)), cut)
    if calculator is not None and why is None:
        right = _run(plan, calculator) == Fraction(example.answer.replace(",", ""))
    return Written(
        example.task, text, why, len(plan.steps), sum(len(s.depends_on) for s in plan.steps), right
    )


def _run(plan: Plan, calculator: str) -> Fraction | None:
    results: dict[str, Fraction] = {}
    for step in plan.steps:
        text = step.tool_input
        for ref in sorted(step.depends_on, key=len, reverse=True):  # "#E10" before "#E1"
            text = text.replace(ref, f"({results[ref]})")
        try:
            results[step.id] = evaluate(text)
        except (ValueError, ZeroDivisionError):
            return None
        if step.tool != calculator:
            return None
    return results[plan.steps[-1].id]
