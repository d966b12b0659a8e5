"""The OpenAPI description is of what is served."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from planners import PlanRequest
from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app
from s3lora_serve.server.openai.openai_description import our_schemas
from s3lora_serve.server.openai.openai_route import OPENAI_ROUTES

OURS = {
    "/v1/plans", "/v1/models", "/v1/models/{name}", "/v1/planners", "/v1/planners/{name}",
    "/", "/health", "/version", "/livez", "/readyz", "/metrics",
}  # fmt: skip


class Inner(BaseModel):
    """A part of a request to the engine."""

    text: str


class ChatRequest(BaseModel):
    """A request to the engine, as vLLM would describe its own."""

    model: str
    parts: list[Inner]


class Unneeded(BaseModel):
    """A schema of a route that is not served."""

    path: str


@pytest.fixture
async def described(fleet, monkeypatch):
    """The description when the engine's application is a FastAPI one, as vLLM's is."""
    engine_app = FastAPI()

    @engine_app.post("/v1/chat/completions")
    async def chat(body: ChatRequest) -> dict[str, str]:
        return {}

    @engine_app.post("/v1/load_lora_adapter")
    async def load(body: Unneeded) -> dict[str, str]:
        return {}

    monkeypatch.setattr(fleet.engine, "openai_app", lambda: engine_app)
    return create_app(fleet.service, ServerConfig(), None).openapi()


def dangling(described):
    """Names of schemas that are referred to and not there."""
    needed = set(re.findall(r"#/components/schemas/([^\"]+)", json.dumps(described)))
    return needed - set(described["components"]["schemas"])


async def test_served_routes_are_described_and_no_others(described):
    """Our routes and the engine's served ones are there; what is filtered out is not."""
    assert set(described["paths"]) == OURS | {"/v1/chat/completions"}
    assert set(described["paths"]) - OURS <= set(OPENAI_ROUTES)


async def test_every_reference_resolves(described):
    """The engine's schemas that are needed come along, through any depth, and no others."""
    schemas = set(described["components"]["schemas"])
    assert dangling(described) == set()
    assert ({"ChatRequest", "Inner"} <= schemas, "Unneeded" in schemas) == (True, False)


async def test_errors_are_described_in_our_shape(described):
    """Every error response with a body is an ErrorBody, the engine's included; a conflict says more.

    A probe that says no is no error: it says what it would have said, with another value.
    """
    found = {
        content["schema"]["$ref"].rsplit("/", 1)[-1]
        for path in described["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if status >= "400"
        for content in answer.get("content", {}).values()
    }
    assert found == {"ErrorBody", "ConflictBody", "Health", "Readiness"}


async def test_only_the_probes_need_no_key(described):
    """The description says where the key is needed: everywhere else."""
    open_paths = {
        path
        for path, ops in described["paths"].items()
        if any(op.get("security") == [] for op in ops.values())
    }
    assert (open_paths, described["security"]) == ({"/", "/health", "/livez", "/readyz"}, [{"ApiKey": []}])


async def test_it_works_for_an_engine_that_describes_nothing(http):
    """An application that has no description is described as far as we can: our field, answers."""
    described = (await http.get("/openapi.json")).json()
    assert set(described["paths"]) == OURS | set(OPENAI_ROUTES)
    assert set(described["components"]["schemas"]["OpenAIRequest"]["properties"]) == {"model", "s3lora"}
    assert dangling(described) == set()


def statuses(described, path):
    """The statuses of a path's only operation."""
    (operation,) = described["paths"][path].values()
    return set(operation["responses"])


async def test_every_status_that_occurs_is_described(described):
    """Planning and chatting may end in each of these ways; what only asks cannot be too large or too many."""
    asks = {
        "200", "400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "499",
        "500", "502", "503",
    }  # fmt: skip
    assert statuses(described, "/v1/plans") == asks
    assert statuses(described, "/v1/chat/completions") == asks
    assert statuses(described, "/v1/planners/{name}") == {"200", "400", "401", "403", "404"}
    for path in ("/v1/plans", "/v1/chat/completions"):
        responses = described["paths"][path]["post"]["responses"]
        assert {status for status, r in responses.items() if "Retry-After" in r.get("headers", {})} == {
            "429",
            "503",
        }


async def test_the_events_of_a_plan_are_described(described):
    """Each event's name with the schema of its data, beside the plan that comes without streaming."""
    content = described["paths"]["/v1/plans"]["post"]["responses"]["200"]["content"]
    events = content["text/event-stream"]["itemSchema"]["oneOf"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Plan"}
    assert {
        e["properties"]["event"]["const"]: e["properties"]["data"]["contentSchema"]["$ref"] for e in events
    } == {
        "step": "#/components/schemas/PlanStep",
        "meta": "#/components/schemas/PlanMeta",
        "error": "#/components/schemas/ErrorBody",
    }


async def test_the_examples_are_requests(described):
    """What the description offers to copy is what the server takes."""
    examples = described["paths"]["/v1/plans"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    assert len(examples) > 2
    for example in examples.values():
        PlanRequest.model_validate(example["value"])


async def test_chat_requests_have_our_field(described):
    """``s3lora`` stands in the engine's own schema of a request, and its type comes along."""
    schemas = described["components"]["schemas"]
    assert schemas["ChatRequest"]["properties"]["s3lora"] == {"$ref": "#/components/schemas/Extras"}
    assert set(schemas["ChatRequest"]["properties"]) == {"model", "parts", "s3lora"}
    assert {"revision", "plan"} == set(schemas["Extras"]["properties"])


@pytest.mark.parametrize("plan", [False, True])
async def test_a_chat_answer_is_as_described(http, plan):
    """What this server adds to an answer fits the schema that it gives for it, and nothing is undescribed."""
    extra = {"s3lora": {"plan": {"tools": [{"name": "Search"}]}}} if plan else {}
    body = {"model": "p", "messages": [{"role": "user", "content": "x"}], **extra}
    answer = (await http.post("/v1/chat/completions", json=body)).json()
    schemas = json.loads(json.dumps(our_schemas()).replace("#/components/schemas/", "#/$defs/"))
    validator = jsonschema.Draft202012Validator({**schemas["OpenAIAnswer"], "$defs": schemas})
    assert [error.message for error in validator.iter_errors(answer)] == []
    assert set(answer["s3lora"]) <= set(schemas["Served"]["properties"])
    assert set(answer["usage"]) & set(schemas["UsageTally"]["properties"]) >= {"s3lora"}
    assert ("plan" in answer["s3lora"], "cost" in answer) == (plan, True)
