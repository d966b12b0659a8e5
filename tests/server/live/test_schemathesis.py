"""Requests made from our OpenAPI description: no 500, no status and no body that it does not describe."""

from __future__ import annotations

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from threaded_server import threaded_server

from planners import ToolSpec
from s3lora_serve.config import PlansConfig

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Where a served fleet is asked: p has own tools, bad could not be loaded, h is fully pruned."""
    with threaded_server(
        tmp_path_factory.mktemp("fleet"),
        "p",
        "bad",
        hollow=("h",),
        tools=(ToolSpec(name="Search"),),
        plans=PlansConfig(max_tools=8, max_steps=6),
        prepare=lambda fleet: fleet.engine.fail_load("bad@*"),
    ) as server:
        yield server.url


@pytest.fixture(scope="module")
def described(url):
    """The description as clients get it, with names that exist among those to try."""
    description = httpx.get(f"{url}/openapi.json").json()
    return schemathesis.openapi.from_dict(description)


# What makes a generated body one that is planned, mostly; else nearly all would name no planner.
PATCHES = (
    {},
    {"planner": "p", "tools": None, "revision": None, "constraint": "grammar"},
    {"planner": "h", "tools": [{"name": "A"}, {"name": "B"}], "evidence": {}, "revision": "0" * 8},
    {"planner": "bad", "tools": [{"name": "A"}]},
    {"planner": "p", "tools": [{"name": f"T{i}"} for i in range(9)]},
    {"model": "p", "messages": [{"role": "user", "content": "x"}], "s3lora": None},
)
# Answered with 200: whether a generated body is, is chance.
GOOD = {
    "/v1/plans": {"planner": "p", "task": "x"},
    "/v1/chat/completions": {"model": "p", "messages": [{"role": "user", "content": "x"}]},
    "/v1/completions": {"model": "p", "prompt": "x"},
    "/v1/responses": {"model": "p", "input": "x"},
}
OPERATIONS = (
    ("POST", "/v1/plans"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/responses"),
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("GET", "/v1/planners"),
    ("GET", "/v1/planners/{name}"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
)
# A request without a body and without a name in its path cannot be wrong.
CASES = [(*operation, GenerationMode.POSITIVE) for operation in OPERATIONS] + [
    (method, path, GenerationMode.NEGATIVE) for method, path in OPERATIONS if method == "POST" or "{" in path
]


def test_every_operation_is_tried(described):
    """What is added to the description is tried, too."""
    found = {(result.ok().method.upper(), result.ok().path) for result in described.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_answer_is_as_described(described, url, method, path, mode):
    """Whatever fits the description, or just misses it: a status that it has, with a body as it says."""
    operation = described[path][method]

    @settings(
        max_examples=80 if operation.body else 15,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode), st.sampled_from(PATCHES))
    def check(case, patch):
        if isinstance(case.body, dict) and mode is GenerationMode.POSITIVE:
            body = {**case.body, **patch}
            case.body = {name: body[name] for name in body if body[name] is not None or name not in patch}
        answer = case.call_and_validate(base_url=url, checks=CHECKS, session=session)
        # 503 is what a planner that could not be loaded is for.
        assert answer.status_code < 500 or answer.status_code == 503

    with requests.Session() as session:
        check()


@pytest.mark.parametrize("path", sorted(GOOD))
def test_a_good_answer_is_as_described(described, url, path):
    """What is planned and what is generated has a body as the description says."""
    case = described[path]["POST"].Case(body=GOOD[path], media_type="application/json")
    assert case.call_and_validate(base_url=url, checks=CHECKS).status_code == 200
