"""Answers become figures: verdicts, validity, overlap with references."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from planners import PlanSyntaxError, parse
from s3lora_serve.judging.outcomes import PlanOutcome, PromptOutcome
from s3lora_serve.judging.refusal import verdict
from s3lora_serve.judging.text_overlap import meteor, rouge_l

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planners import Plan
    from s3lora_serve.judging.outcomes import Answer
    from s3lora_serve.judging.suite import PlanSet, PlanTask, PromptSet

OPENING_CHARS = 60  # words can be endless


def prompt_outcome(asked: PromptSet, answers: Sequence[Answer], words: int = 6) -> PromptOutcome:
    """A verdict for each answer; of the answers themselves, only the first ``words`` words are kept."""
    pairs = list(zip(asked.prompts, answers, strict=True))
    return PromptOutcome(
        "".join(verdict(answer.text, prompt).value for prompt, answer in pairs),
        tuple(answer.tokens for answer in answers),
        tuple(" ".join(answer.text.split()[:words])[:OPENING_CHARS] for answer in answers),
    )


def plan_outcome(asked: PlanSet, answers: Sequence[Answer], losses: Sequence[float]) -> PlanOutcome:
    """Every figure of each answer. ``losses``: nats a token of the references, as the subject gave them.

    Raises ValueError for a loss that is not finite.
    """
    if odd := [f"{loss} for task {n}" for n, loss in enumerate(losses, 1) if not math.isfinite(loss)]:
        raise ValueError(f"plan set {asked.name!r}: the loss is {odd[0]}")
    if len(losses) != len(asked.tasks):
        raise ValueError(f"plan set {asked.name!r}: {len(losses)} losses for {len(asked.tasks)} tasks")
    judged = [_judge(task, answer) for task, answer in zip(asked.tasks, answers, strict=True)]
    texts = [(reference, answer.text) for reference, answer in zip(asked.references(), answers, strict=True)]
    return PlanOutcome(
        valid=tuple(float(valid) for valid, _ in judged),
        tool_choice=tuple(choice for _, choice in judged),
        rouge_l=tuple(rouge_l(*pair) for pair in texts),
        meteor=tuple(meteor(*pair) for pair in texts),
        loss=tuple(losses),
        tokens=tuple(answer.tokens for answer in answers),
    )


def _judge(task: PlanTask, answer: Answer) -> tuple[bool, float]:
    """Whether the plan is valid, and how well its tools are chosen."""
    try:
        plan = parse(answer.text)
    except PlanSyntaxError:
        return False, 0.0
    request = task.request
    problems = plan.problems(request.tools, request.evidence, max_steps=request.max_steps)
    return answer.ended and not problems, _f1(_tools(task.reference), _tools(plan))


def _tools(plan: Plan) -> Counter[str]:
    return Counter(step.tool for step in plan.steps)


def _f1(reference: Counter[str], given: Counter[str]) -> float:
    """2·|both| / (|reference| + |given|), as multisets."""
    total = reference.total() + given.total()
    return 2 * (reference & given).total() / total if total else 0.0
