"""The server over the real engine: admitted adapters answer, and nothing of vLLM gets past the filter."""

from __future__ import annotations

import json
import re
from itertools import combinations

import pytest
from real_fleet import ASK, BASE, NOISE, counted, distance, served_by, told

from planners import Plan
from s3lora_serve.server.openai.openai_route import OPENAI_ROUTES

pytestmark = pytest.mark.engine

PLAN = {
    "task": "Who directed Inception, and where was that person born?",
    "tools": [{"name": "Search", "description": "search the web"}, {"name": "LLM"}],
    "max_steps": 2,
    "max_text": 16,
}


# hollow: all of its modules were pruned; dud: its adapter changes nothing.
served = served_by("p", "q", "hollow", "dud")


async def test_planners_came_up_as_they_should(served):
    """p and q serve with a proof of effect, hollow by the base model, and dud was found out."""
    states = {
        planner.name: (planner.state.value, planner.active.served_by) for planner in served.service.planners()
    }
    assert states == {
        "p": ("serving", "adapter"),
        "q": ("serving", "adapter"),
        "hollow": ("serving", "base"),
        "dud": ("failed", "adapter"),
    }
    p = served.service.get("p")
    assert (p.active.effect.max_abs_delta > 0.01, len(p.revision.lineage.pruned)) == (True, 10)
    assert (await served.http.get("/readyz")).json()["planners"] == {"serving": 3, "configured": 4}


async def test_chat_is_answered_by_the_planner_that_model_names(served):
    """p, q and base answer each from its own weights, hollow from the base's; headers name the revision."""
    answers = {}
    for model in ("p", "q", "hollow", BASE):
        answers[model], digest = await told(served, model)
        assert digest == (None if model == BASE else served.service.get(model).revision.digest)
    apart = [distance(answers[one], answers[other]) for one, other in combinations(("p", "q", BASE), 2)]
    assert (min(apart) > 3 * NOISE, distance(answers["hollow"], answers[BASE]) <= NOISE) == (True, True)


async def test_the_request_id_is_in_the_answers_own_id(served):
    """One id leads from the client's log to the engine's."""
    answer = await served.http.post(
        "/v1/chat/completions", json={"model": "p", **ASK}, headers={"x-request-id": "trace-7"}
    )
    assert (answer.headers["x-request-id"], answer.json()["id"]) == ("trace-7", "chatcmpl-trace-7")


@pytest.mark.parametrize("planner", ["p", "hollow"])
@pytest.mark.parametrize("temperature", [0, 1])
async def test_a_plan_is_valid(served, planner, temperature):
    """Random adapters write nonsense, but always a plan: the grammar sees to it."""
    body = {"planner": planner, "temperature": temperature, "seed": 7, **PLAN}
    answer = await served.http.post("/v1/plans", json=body)
    assert answer.status_code == 200, answer.text
    plan = Plan.model_validate(answer.json())
    assert (plan.problems(["Search", "LLM"]), plan.meta.planner, plan.meta.finish_reason) == (
        (),
        planner,
        "stop",
    )
    assert plan.meta.cost.time_to_first_token_seconds > 0


async def test_unknown_and_failed_planners(served):
    """404 with the planners for a name that is none, 503 with the reason for one that does not serve."""
    unknown = await served.http.post("/v1/chat/completions", json={"model": "../p", **ASK})
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (
        404,
        "there is no planner '../p'; planners: dud, hollow, p, q",
    )
    failed = await served.http.post("/v1/chat/completions", json={"model": "dud", **ASK})
    assert (failed.status_code, "changes the log-probabilities" in failed.json()["error"]["message"]) == (
        503,
        True,
    )


async def test_none_of_vllms_other_routes_is_there(served, vllm_engine):
    """Each route of vLLM's own application but those that are served: 401 without the key, 404 with it."""
    ours = {"/v1/models", "/metrics", "/openapi.json", "/health", "/version", *OPENAI_ROUTES}
    paths = {getattr(route, "path", None) for route in vllm_engine.openai_app().routes} - ours - {None}
    assert {"/invocations", "/tokenize", "/ping"} <= paths
    statuses = set()
    for path in paths:
        url = re.sub(r"\{[^}]*\}", "x", path) or "/"
        statuses.add((await served.http.post(url, json={})).status_code)
        statuses.add((await served.http.get(url)).status_code)
        anonymous = await served.http.post(url, json={}, headers={"authorization": ""})
        assert anonymous.status_code == 401
    assert statuses == {404}


BAD = (
    {"model": "p"},
    {"model": "p", "messages": "x"},
    {"model": "p", **ASK, "max_tokens": -1},
    {"model": "p", **ASK, "temperature": 1e400},
    {"model": "p", **ASK, "chat_template": "{{ 1 }}"},
    {"model": "p", **ASK, "structured_outputs": {"grammar": "root ::= nope nope("}},
    {"model": "p", "messages": [{"role": "user", "content": "\ud800"}]},
    {"model": "p", "messages": [{"role": "user", "content": "word " * 5000}]},
    {"model": "p", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}]},
    {"model": "p", **ASK, "guided_json": {}},
    {"model": "p", **ASK, "lora_request": {"lora_path": "/etc"}},
)  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=lambda body: ",".join(body)[:40])
async def test_bad_requests_are_refused_in_our_shape(served, body):
    """Refused by vLLM or by us: a 400 with OpenAI's four fields, a stable code, and no path."""
    answer = await served.http.post(
        "/v1/chat/completions",
        content=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    error = answer.json()["error"]
    assert (
        answer.status_code,
        sorted(error),
        error["type"],
        error["code"] in ("engine_refused", "ignored_field", "invalid_request", "context_length_exceeded"),
    ) == (
        400,
        ["code", "message", "param", "type"],
        "invalid_request_error",
        True,
    )


async def test_a_task_that_is_too_long_is_the_clients_to_mend(served):
    """The engine's refusal comes back as 400 with the limit, not as a failure of the server."""
    answer = await served.http.post("/v1/plans", json={"planner": "p", **PLAN, "task": "word " * 5000})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "context_length_exceeded")
    assert "2048" in error["message"]


async def test_no_answer_holds_a_server_path(served):
    """Store, sources and model folder stay unsaid, in descriptions, reports, metrics and errors."""
    told = []
    for path in (
        "/v1/models",
        "/v1/models/p",
        "/v1/planners",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/nope",
    ):
        told.append((await served.http.get(path)).text)
    for planner in served.service.planners():
        told.append((await served.http.get(f"/v1/planners/{planner.name}")).text)
    for body in ({"model": "p", **ASK}, {"model": "dud", **ASK}, {"model": "p", "messages": 7}):
        told.append((await served.http.post("/v1/chat/completions", json=body)).text)
    told.append((await served.http.post("/v1/plans", json={"planner": "p", **PLAN})).text)
    assert [secret for secret in served.secrets if any(secret in text for text in told)] == []


async def test_metrics_count_and_bring_vllms_own(served):
    """A request moves our counters by what its usage says; vLLM's families follow, none twice."""
    before = counted(served, "", "s3lora_output_tokens_total")
    await served.http.post("/v1/chat/completions", json={"model": "p", **ASK})
    assert counted(served, "", "s3lora_output_tokens_total") - before == 12
    lines = (await served.http.get("/metrics")).text.splitlines()
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert ("vllm:num_requests_running" in families, len(families) - len(set(families))) == (True, 0)
    assert (await served.http.get("/metrics", headers={"authorization": ""})).status_code == 401


async def test_the_description_covers_vllms_routes(served):
    """OpenAPI has the two served routes of vLLM with all their schemas, and none of the others."""
    described = (await served.http.get("/openapi.json")).json()
    needed = set(re.findall(r"#/components/schemas/([^\"]+)", json.dumps(described)))
    assert (
        set(OPENAI_ROUTES) <= set(described["paths"]),
        needed - set(described["components"]["schemas"]),
    ) == (
        True,
        set(),
    )
    assert [
        path for path in described["paths"] if "lora" in path or path in ("/tokenize", "/invocations")
    ] == []
