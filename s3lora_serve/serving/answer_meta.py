"""What an answer says of itself: which revision gave it, and what it cost the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from planners import Cost, ExamMark, SsiSummary
from s3lora_serve import __version__
from s3lora_serve.safety.exam.exam_facts import exam_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import EngineKind, RequestFacts
    from s3lora_serve.fleet.deployment import Deployment


N = TypeVar("N", int, float)


def fingerprint(engine: EngineKind, base_model: str, revision: str | None) -> str:
    """OpenAI's ``system_fingerprint``: another one whenever the same prompt may be answered otherwise.

    ``revision`` is a digest, None for the base model. vLLM's own does not change with the weights.
    """
    weights = revision[:12] if revision else "base"
    return "/".join((f"s3lora-serve-{__version__}", engine, base_model, weights))


def summary_of(revision: Revision) -> SsiSummary:
    """How sharp the adapter's modules were when it was admitted."""
    ssi = revision.lineage.report.summary()
    return SsiSummary(
        min=ssi.min, median=ssi.median, max=ssi.max, mean=ssi.mean, modules=ssi.modules, inert=ssi.inert
    )


def exam_of(deployment: Deployment) -> ExamMark | None:
    """What the exam found of it before it served; None if it passed none."""
    mark = exam_mark(proof.facts) if (proof := deployment.proofs.get("exam")) is not None else None
    return None if mark is None else ExamMark(**mark)


def cost_of(
    facts: Sequence[RequestFacts], revision: Revision | None, guard_tokens: int | None = None
) -> Cost:
    """The cost of one answer: of its engine requests in their order, at least one; None: the base model's.

    A sum is None as soon as one of its parts was not measured. What judged it has ``guard_tokens`` alone.
    """
    first = facts[0]
    return Cost(
        prompt_tokens=sum(f.prompt_tokens for f in facts),
        cached_prompt_tokens=_total(facts, lambda f: f.cached_tokens),
        output_tokens=sum(f.output_tokens for f in facts),
        queue_seconds=first.queue_seconds,
        time_to_first_token_seconds=first.first_token_seconds,
        time_per_output_token_seconds=_per_token(facts),
        end_to_end_seconds=sum(f.total_seconds for f in facts),
        engine_seconds=_total(facts, lambda f: f.engine_seconds),
        guard_tokens=guard_tokens,
        kept_lora_modules=revision.lineage.kept if revision else None,
        pruned_lora_modules=len(revision.lineage.pruned) if revision else None,
    )


def _total(facts: Sequence[RequestFacts], figure: Callable[[RequestFacts], N | None]) -> N | None:
    figures = [figure(f) for f in facts]
    measured = [value for value in figures if value is not None]
    return sum(measured) if len(measured) == len(figures) else None


def _per_token(facts: Sequence[RequestFacts]) -> float | None:
    """Mean seconds between tokens; None without a second token."""
    seconds = _total(facts, lambda f: f.decode_seconds)
    gaps = sum(max(f.output_tokens - 1, 0) for f in facts)
    return seconds / gaps if seconds is not None and gaps else None
