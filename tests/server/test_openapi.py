"""The OpenAPI description is of what is served."""

from __future__ import annotations

import json
import re

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app
from s3lora_serve.server.openai import OPENAI_ROUTES

OURS = {
    "/v1/plans", "/v1/models", "/v1/models/{name}", "/v1/planners", "/v1/planners/{name}",
    "/livez", "/readyz", "/metrics",
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


async def test_served_routes_are_described_and_no_others(described):
    """Our routes and the engine's served ones are there; what is filtered out is not."""
    assert set(described["paths"]) == OURS | {"/v1/chat/completions"}
    assert set(described["paths"]) - OURS <= set(OPENAI_ROUTES)


async def test_every_reference_resolves(described):
    """The engine's schemas that are needed come along, through any depth, and no others."""
    text = json.dumps(described)
    needed = set(re.findall(r"#/components/schemas/([^\"]+)", text))
    schemas = set(described["components"]["schemas"])
    assert (needed - schemas, {"ChatRequest", "Inner"} <= schemas, "Unneeded" in schemas) == (
        set(),
        True,
        False,
    )


async def test_errors_are_described_in_our_shape(described):
    """Every error response with a body is an ErrorBody, the engine's included."""
    found = {
        content["schema"]["$ref"].rsplit("/", 1)[-1]
        for path in described["paths"].values()
        for operation in path.values()
        for status, answer in operation["responses"].items()
        if status >= "400"
        for content in answer.get("content", {}).values()
    }
    assert found == {"ErrorBody"}


async def test_only_the_probes_need_no_key(described):
    """The description says where the key is needed: everywhere else."""
    open_paths = {
        path
        for path, ops in described["paths"].items()
        if any(op.get("security") == [] for op in ops.values())
    }
    assert (open_paths, described["security"]) == ({"/livez", "/readyz"}, [{"ApiKey": []}])


async def test_it_works_for_an_engine_that_describes_nothing(http):
    """An application without a description of its own leaves its routes out, and ours in."""
    assert set((await http.get("/openapi.json")).json()["paths"]) == OURS
