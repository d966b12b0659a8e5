"""One plan: request → prompt and grammar → engine → plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners import (
    Plan,
    PlanMeta,
    PlannerInput,
    PlanSyntaxError,
    SsiSummary,
    Timings,
    Usage,
    parse,
    plan_grammar,
    render_messages,
)
from planners.grammar import MAX_TEXT
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineError, PlanIncomplete

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Engine, RequestFacts
    from s3lora_serve.runtime.leases import Lease

# "Plan: ", "\n#E32 = ", a tool's name, brackets and a line break, in characters.
_STEP_FRAME = 24 + 64


async def make_plan(
    engine: Engine,
    lease: Lease,
    request: PlannerInput,
    *,
    base_model: str,
    temperature: float,
    seed: int | None,
) -> Plan:
    """One plan from one generation, decoded under the grammar of the request's tools.

    What it was worth is noted on the lease. Raises PlanIncomplete when the answer was cut off, EngineError
    when it does not keep to the grammar.
    """
    planner, revision = lease.deployment.planner, lease.deployment.revision
    sampling = Sampling(
        max_tokens=token_budget(request.max_steps, engine.max_model_len),
        temperature=temperature,
        seed=seed,
        grammar=plan_grammar(request.tools, request.max_steps, first=request.first_step),
    )
    answer = await engine.chat(render_messages(request), lease.slot, sampling)
    lease.tokens = answer.facts.output_tokens
    lease.outcome = "invalid"  # until it is known to be a plan
    if answer.facts.finish_reason != "stop":
        raise PlanIncomplete(
            f"planner {planner!r} was cut off after {answer.facts.output_tokens} tokens"
            f" (finish_reason {answer.facts.finish_reason!r})",
            hint=f"ask for fewer than {request.max_steps} steps, or shorten the task: the model's limit is"
            f" {engine.max_model_len} tokens for prompt and plan",
        )
    plan = _read(answer.text, request)
    lease.outcome = "ok"
    return plan.model_copy(update={"meta": _meta(planner, revision, answer.facts, base_model)})


def token_budget(max_steps: int, max_model_len: int) -> int:
    """Most tokens a plan may take: one for each character that the grammar allows, within the model's length.

    English takes about a quarter of that, so a whole plan is never cut; a model that rambles still ends.
    """
    return min(max_steps * (2 * MAX_TEXT + _STEP_FRAME), max_model_len)


def _read(text: str, request: PlannerInput) -> Plan:
    try:
        plan = parse(text)
    except PlanSyntaxError as error:
        raise EngineError(f"the engine's answer is not a plan although a grammar was set: {error}") from error
    if problems := plan.problems(request.tools, request.evidence):
        raise EngineError(f"the engine's plan breaks the grammar that was set: {problems[0]}")
    return plan


def _meta(planner: str, revision: Revision, facts: RequestFacts, base_model: str) -> PlanMeta:
    ssi = revision.lineage.report.summary()
    return PlanMeta(
        planner=planner,
        revision=revision.digest,
        base_model=base_model,
        ssi=SsiSummary(
            min=ssi.min, median=ssi.median, max=ssi.max, mean=ssi.mean, modules=ssi.modules, inert=ssi.inert
        ),
        pruned_modules=revision.lineage.pruned,
        usage=Usage(
            prompt_tokens=facts.prompt_tokens,
            output_tokens=facts.output_tokens,
            cached_tokens=facts.cached_tokens,
        ),
        timings=Timings(wait_seconds=0.0, total_seconds=facts.total_seconds),
        constraint="grammar",
        repairs=0,
        finish_reason=facts.finish_reason,
    )
