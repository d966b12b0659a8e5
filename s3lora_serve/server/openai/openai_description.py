"""What OpenAPI says of the OpenAI endpoints beyond the engine's own types: our fields and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from planners import Cost, ExamMark, PlanStep, Problem, SsiSummary  # noqa: TC001  (pydantic reads the annotations)
from s3lora_serve.config.guard import GuardPart  # noqa: TC001  (pydantic reads the annotations)
from s3lora_serve.server.error_responses import documented
from s3lora_serve.server.openai.extras import Extras
from s3lora_serve.server.plans.plan_description import WHO

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_REF = "#/components/schemas/{model}"
_ERRORS = documented(400, 403, 404, 408, 409, 413, 415, 422, 429, 499, 500, 502, 503)


class PlannedSteps(BaseModel):
    """A plan that was asked for with ``s3lora.plan``."""

    steps: list[PlanStep]


class Guarded(BaseModel):
    """What the guard found of the request; ``refused`` stands in an answer that is only the refusal."""

    verdict: Literal["allowed", "open", "observed", "refused"]
    part: GuardPart | None = Field(None, description="of the request, that was refused")
    by: list[str]


class Served(BaseModel):
    """Who answered; the base model under its own name has neither planner nor revision."""

    planner: str | None = None
    revision: str | None = None
    role: Literal["active", "canary", "shadow"] | None = None
    base_model: str
    engine: str = Field(description="vllm; fake: the answer is made up, no model wrote it")
    served_by: Literal["adapter", "base"]
    ssi: SsiSummary | None = None
    kept_modules: int | None = None
    pruned_modules: list[str] | None = None
    plan: PlannedSteps | None = Field(None, description="absent when the answer was cut")
    problems: list[Problem] | None = Field(None, description="why there is no plan")
    guard: Guarded | None = Field(None, description="absent where no guard judges the request")
    exam: ExamMark | None = Field(None, description="of the revision; absent where none is examined")


class OurTally(BaseModel):
    """Ours in whole numbers, since clients add up all that is in ``usage``."""

    total_tokens: int
    s3lora: dict[str, dict[str, int]] | None = Field(
        None, description="who answered: names with a count; and `cost`, with times in microseconds"
    )


class UsageTally(OurTally):
    """Tokens as OpenAI counts them in chats and completions."""

    prompt_tokens: int
    completion_tokens: int | None = None


class ResponseTally(OurTally):
    """Tokens as OpenAI counts them in responses."""

    input_tokens: int
    output_tokens: int


class OpenAIAnswer(BaseModel):
    """What this server adds to OpenAI's answer; all else is as OpenAI defines it.

    In a stream ``model`` and ``system_fingerprint`` are in every chunk, the rest is in the last one.
    """

    model: str = Field(description="the planner's name")
    system_fingerprint: str | None = Field(
        None, description="changes with the server's version, its engine, the base model and the revision"
    )
    usage: UsageTally | ResponseTally | None = None
    s3lora: Served | None = None
    cost: Cost | None = None


def undescribed(served: Iterable[str]) -> dict[str, Any]:
    """What there is to say of OpenAI's routes beside what ``our_path`` and ``our_body`` add."""
    body = {"application/json": {"schema": {"$ref": _REF.format(model="OpenAIRequest")}}}
    post = {"summary": "As OpenAI defines it", "requestBody": {"required": True, "content": body}}
    properties = {"model": {"type": "string", "description": "a planner's name, or the base model's"}}
    request = {"type": "object", "properties": properties, "required": ["model"]}
    return {
        "paths": {path: {"post": post} for path in served},
        "components": {"schemas": {"OpenAIRequest": request}},
    }


def our_schemas() -> dict[str, Any]:
    """The schemas that the descriptions below refer to, by name."""
    models = [(Extras, "validation"), (OpenAIAnswer, "serialization")]
    _, schemas = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]
    return dict(schemas["$defs"])


def our_path(path: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's description of a path, with answers and errors as they leave this server."""
    return {
        method: {**operation, "tags": ["openai"], "responses": {"200": _ANSWER, **_errors()}}
        for method, operation in path.items()
    }


def our_body(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's schema of a request, with our field."""
    return {
        **schema,
        "properties": {**schema["properties"], "s3lora": {"$ref": _REF.format(model="Extras")}},
    }


_ANSWER = {
    "description": "OpenAI's answer and ours; with `stream` as events, the last one with usage and cost",
    "headers": WHO,
    "content": {
        "application/json": {"schema": {"$ref": _REF.format(model="OpenAIAnswer")}},
        "text/event-stream": {
            "itemSchema": {
                "type": "object",
                "properties": {"data": {"type": "string", "description": "a chunk as JSON, or [DONE]"}},
                "required": ["data"],
            }
        },
    },
}


def _errors() -> dict[str, Any]:
    """Errors as FastAPI would write them into its own routes' descriptions."""
    described = {}
    for status, error in _ERRORS.items():
        body = error.get("model")
        reference = {"schema": {"$ref": _REF.format(model=body.__name__)}} if body else None
        content = {"content": {"application/json": reference}} if body else {}
        described[str(status)] = {key: value for key, value in error.items() if key != "model"} | content
    return described
