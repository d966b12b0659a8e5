"""Who made a plan, from which weights, and at what cost."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Value(BaseModel):
    # A server may be newer than the client that reads its answer, and say more.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Usage(_Value):
    """Tokens of one request. ``cached_tokens``: of the prompt, from the prefix cache; None: not measured."""

    prompt_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cached_tokens: int | None = Field(None, ge=0)


class Timings(_Value):
    """Seconds by the server's clock; what the engine measured is in ``Cost``."""

    wait_seconds: float = Field(ge=0, description="from the request's arrival until its planner was ready")
    total_seconds: float = Field(ge=0, description="from the request's arrival until its plan was whole")


class SsiSummary(_Value):
    """Spread of the spectral sharpness index over an adapter's modules; ``inert`` modules have none."""

    min: float | None
    median: float | None
    max: float | None
    mean: float | None
    modules: int = Field(ge=0)
    inert: int = Field(ge=0)


class Cost(_Value):
    """What one answer cost the engine. A figure that was not measured is None, and absent from JSON.

    Several engine requests (a plan that was asked for again) add up; ``queue_seconds`` and
    ``time_to_first_token_seconds`` are the first one's.
    """

    prompt_tokens: int = Field(ge=0)
    cached_prompt_tokens: int | None = Field(None, ge=0, description="of the prompt, from the prefix cache")
    output_tokens: int = Field(ge=0)
    queue_seconds: float | None = Field(None, ge=0, description="until the engine began to work on it")
    time_to_first_token_seconds: float | None = Field(None, ge=0)
    time_per_output_token_seconds: float | None = Field(None, ge=0, description="mean, after the first")
    end_to_end_seconds: float | None = Field(None, ge=0, description="from the engine's call to its end")
    engine_seconds: float | None = Field(
        None, ge=0, description="its share of the engine's time, shared equally at each moment"
    )
    guard_tokens: int | None = Field(
        None, ge=0, description="that the guard read and wrote to judge the request; 0: remembered"
    )
    kept_lora_modules: int | None = Field(None, ge=0)
    pruned_lora_modules: int | None = Field(None, ge=0)


class GuardVerdict(_Value):
    """What the guard says of an answer that left; a request that it refused has none.

    ``open``: there was no verdict, and the server answers all the same. ``by``: who was asked.
    """

    verdict: Literal["allowed", "open", "observed"]
    by: tuple[str, ...] = ()


class ExamMark(_Value):
    """What the exam found of the revision that answered, before it served. Not of this answer.

    ``prompts``: those that ship, which are public, or the operator's own. ``questions`` is their digest.
    ``stale``: questions, settings, guard or base model are others by now.
    """

    verdict: Literal["passed", "refused", "undecided"]
    prompts: Literal["public", "own"]
    questions: str
    examined_at: str
    stale: bool = False


class PlanMeta(_Value):
    """Who made a plan and at what cost.

    ``repairs`` counts the repairs after decoding and ``repair_notes`` describes each.
    ``system_fingerprint`` changes with the server's version, its engine, the base model and the revision.
    """

    planner: str
    revision: str
    base_model: str
    engine: str | None = Field(None, description="vllm; fake: the plan is made up, no model wrote it")
    role: Literal["active", "canary", "shadow"] = "active"
    system_fingerprint: str | None = None
    ssi: SsiSummary | None = None
    pruned_modules: tuple[str, ...] = ()
    usage: Usage | None = None
    cost: Cost | None = None
    timings: Timings | None = None
    constraint: Literal["grammar", "none"] = "none"
    repairs: int = Field(0, ge=0)
    repair_notes: tuple[str, ...] = ()
    finish_reason: str | None = None
    guard: GuardVerdict | None = Field(None, description="absent where no guard judges the request")
    exam: ExamMark | None = Field(None, description="absent where revisions are not examined")
