"""The server over the real engine: vLLM's own OpenAI routes, admitted adapters, the demo base model."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio
import uvicorn
from adapters_factory import write_adapter
from fleet import KEY

from planners import Plan
from s3lora_serve.adapters.base_model import BaseModelSpec
from s3lora_serve.adapters.store import RevisionStore
from s3lora_serve.adapters.verify import Limits
from s3lora_serve.cli.admit import StoreAdmission
from s3lora_serve.cli.resolve import BaseModel
from s3lora_serve.config import ServerConfig
from s3lora_serve.runtime.engine_host import EngineHost
from s3lora_serve.runtime.journal import Journal
from s3lora_serve.runtime.operation import Wanted
from s3lora_serve.runtime.planner import DesiredPlanner
from s3lora_serve.runtime.service import PlannerService
from s3lora_serve.server.admin import create_admin_app
from s3lora_serve.server.app import create_app
from s3lora_serve.server.openai import OPENAI_ROUTES
from s3lora_serve.spectral.policy import PrunePolicy

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

pytestmark = pytest.mark.engine

BASE = "smollm2"  # the shared engine's served_name (tests/conftest.py)
BEARER = {"authorization": f"Bearer {KEY}"}
ASK = {
    "messages": [{"role": "user", "content": "Who directed Inception?"}],
    "max_tokens": 12,
    "temperature": 0,
}
PLAN = {
    "task": "Who directed Inception, and where was that person born?",
    "tools": [{"name": "Search", "description": "search the web"}, {"name": "LLM"}],
    "max_steps": 2,
}


@dataclass(frozen=True)
class Served:
    """A started service on the shared engine, its application, and strings that no answer may hold."""

    service: PlannerService
    app: FastAPI
    http: httpx.AsyncClient
    admin: httpx.AsyncClient
    sources: Path  # adapter folders by name; n is no planner's yet
    secrets: tuple[str, ...]

    def held(self):
        """Leases and engine requests of p that have not ended."""
        p = self.service.get("p")
        return sum(p.leases.values()), self.service.engine.running(p.slot)


class Shared:
    """An engine that others go on to use."""

    def __init__(self, engine):
        self._engine = engine

    def __getattr__(self, name):
        return getattr(self._engine, name)

    async def close(self):
        """Nothing: it is not ours."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(vllm_engine, demo_base, client_of, tmp_path_factory):
    """Planners p and q, hollow (all of whose modules were pruned) and dud (whose adapter changes nothing)."""
    root = tmp_path_factory.mktemp("my store")
    store = RevisionStore(root / "store")
    adapters = {
        "p": {"seed": 1},
        "q": {"seed": 2},
        "hollow": {"seed": 3, "layers": range(2)},  # four modules, and the ten sharpest are pruned
        "dud": {"seed": 4, "strength": 1e-7},  # lost in the rounding of bfloat16
        "n": {"seed": 5},
    }
    base = BaseModel(str(demo_base), BASE, None, BaseModelSpec.from_pretrained(demo_base))
    admission = StoreAdmission(base, Limits(), store)
    desired, revisions = {}, {}
    for name, options in adapters.items():
        source = root / "sources" / name
        source.mkdir(parents=True)
        write_adapter(source, **options)
        if name != "n":
            desired[name] = DesiredPlanner.of(str(source), PrunePolicy())
            revisions[name] = admission.admit(name, Wanted(source=str(source)), lambda stage, done: None)

    async def start():
        return Shared(vllm_engine)

    host, journal = EngineHost(start), Journal(root / "state.db")
    service = PlannerService(host, journal, admission, base_model=BASE, first_slot_id=2_000_000)
    await host.start()
    await service.start(desired, revisions)
    await service.commit()  # although dud failed: the rest is as it should be
    app = create_app(service, ServerConfig(), KEY)
    admin = client_of(create_admin_app(service, KEY), headers=BEARER)
    http, secrets = client_of(app, headers=BEARER), (str(root), "my store", str(demo_base))
    yield Served(service, app, http, admin, root / "sources", secrets)
    slots = [
        deployment.slot
        for planner in service.planners()
        for deployment in (planner.active, *planner.others)
        if deployment.slot is not None
    ]
    await service.close()
    await host.close()
    journal.close()
    for slot in slots:
        await vllm_engine.unload(slot)


def counted(served, outcome="ok", name="s3lora_requests_total", planner="p"):
    """One of our counters, now."""
    labels = f'outcome="{outcome}",planner="{planner}"' if outcome else f'planner="{planner}"'
    lines = served.service.metrics.exposition().decode().splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{{labels}}} "))


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
    """Greedy answers of p, q and the base differ; hollow's is the base's; headers name the revision."""
    texts = {}
    for model in ("p", "q", "hollow", BASE):
        answer = await served.http.post("/v1/chat/completions", json={"model": model, **ASK})
        assert answer.status_code == 200, answer.text
        texts[model] = answer.json()["choices"][0]["message"]["content"]
        if model != BASE:
            digest = served.service.get(model).revision.digest
            assert (answer.headers["x-s3lora-planner"], answer.headers["x-s3lora-revision"]) == (
                model,
                digest,
            )
    assert (len({texts["p"], texts["q"], texts[BASE]}), texts["hollow"] == texts[BASE]) == (3, True)


async def test_the_request_id_is_in_the_answers_own_id(served):
    """One id leads from the client's log to the engine's."""
    answer = await served.http.post(
        "/v1/chat/completions", json={"model": "p", **ASK}, headers={"x-request-id": "trace-7"}
    )
    assert (answer.headers["x-request-id"], answer.json()["id"]) == ("trace-7", "chatcmpl-trace-7")


async def test_a_stream_says_what_a_whole_answer_says(served):
    """Server-sent events, our headers, usage at the end, and the same greedy text."""
    whole = await served.http.post("/v1/chat/completions", json={"model": "p", **ASK})
    body = {"model": "p", "stream": True, "stream_options": {"include_usage": True}, **ASK}
    streamed = await served.http.post("/v1/chat/completions", json=body)
    events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line]
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert (events[-1], text) == ("[DONE]", whole.json()["choices"][0]["message"]["content"])
    assert (chunks[-1]["usage"], streamed.headers["x-s3lora-planner"]) == (
        {**chunks[-1]["usage"], "completion_tokens": 12},
        "p",
    )


async def test_completions_take_lists_of_prompts(served):
    """Two prompts with two answers each: four choices, counted as vLLM's engine was asked."""
    before = counted(served)
    body = {"model": "p", "prompt": ["Hello", "World"], "n": 2, "max_tokens": 3}
    answer = await served.http.post("/v1/completions", json=body)
    assert (answer.status_code, len(answer.json()["choices"]), counted(served) - before) == (200, 4, 2)


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
    assert plan.meta.timings.first_token_seconds > 0


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
    """Each route of vLLM's own application but the two that are served: 401 without the key, 404 with it."""
    ours = {"/v1/models", "/metrics", "/openapi.json", *OPENAI_ROUTES}
    paths = {getattr(route, "path", None) for route in vllm_engine.openai_app().routes} - ours - {None}
    assert {"/invocations", "/tokenize", "/ping", "/health"} <= paths
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
    {"model": "p", **ASK, "n": 10**6},
    {"model": "p", **ASK, "tools": []},
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
    """Whoever refuses, vLLM or we: a 400 with OpenAI's four fields, a stable code, and no path."""
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
        error["code"] in ("engine_refused", "ignored_field"),
    ) == (
        400,
        ["code", "message", "param", "type"],
        "invalid_request_error",
        True,
    )


async def test_a_task_that_is_too_long_is_the_clients_to_mend(served):
    """The engine's refusal comes back as 422 with the limit, not as a failure of the server."""
    answer = await served.http.post("/v1/plans", json={"planner": "p", **PLAN, "task": "word " * 5000})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], "2048" in error["message"]) == (422, "engine_refused", True)


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


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_its_request(served, stream):
    """Over a socket: the engine aborts the request of a client that is gone, streamed or not."""
    before = counted(served, "aborted")
    body = {"model": "p", **ASK, "stream": stream, "max_tokens": 1500, "ignore_eos": True}
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        # Without its lifespan: vLLM's deletes the application's state when it ends, and other tests use it.
        server = uvicorn.Server(uvicorn.Config(served.app, log_config=None, lifespan="off"))
        running = asyncio.ensure_future(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/chat/completions"
        async with httpx.AsyncClient(headers=BEARER) as http:
            with pytest.raises(httpx.ReadTimeout if not stream else TimeoutError):
                async with asyncio.timeout(1):
                    await http.post(url, json=body, timeout=1 if stream else 0.5)
        for _ in range(100):
            if counted(served, "aborted") > before:
                break
            await asyncio.sleep(0.05)
        server.should_exit = True
        await running
    assert counted(served, "aborted") - before == 1
    assert served.held() == (0, 0)


async def text_of(served, **more):
    """p's greedy answer, whole, and the revision that gave it."""
    answer = await served.http.post("/v1/chat/completions", json={"model": "p", **ASK, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"], answer.headers["x-s3lora-revision"]


async def ordered(served, path, body):
    """The operation that an order began, ended."""
    answer = await served.admin.post(f"/admin/planners/p/{path}", json=body)
    assert answer.status_code in (200, 202), answer.text
    operation = answer.json()
    while operation["step"] not in ("draining", "done", "failed"):
        operation = (await served.admin.get(f"/admin/operations/{operation['id']}?wait=5")).json()
    return operation


async def test_a_swap_and_its_rollback_under_a_stream(served):
    """A stream that began before the swap ends on its own revision; what begins later runs on the new one.

    Rolled back, p says again what it said before. Nothing is held in the end.
    """
    old_text, old = await text_of(served)
    body = {"model": "p", **ASK, "stream": True, "max_tokens": 200, "ignore_eos": True}
    long_text, _ = await text_of(served, max_tokens=200, ignore_eos=True)
    parts, begun = [], asyncio.Event()

    async def stream():
        async with served.http.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    parts.append(json.loads(line[6:])["choices"][0]["delta"].get("content") or "")
                    begun.set()
            return answer.headers["x-s3lora-revision"]

    streaming = asyncio.ensure_future(stream())
    swapped = await ordered(served, "swap", {"source": str(served.sources / "n"), "reason": "newer"})
    assert swapped["step"] in ("draining", "done"), swapped
    new_text, new = await text_of(served)
    assert (await streaming, begun.is_set()) == (old, True)
    # bfloat16 depends on what shares the batch, so only the beginning must agree.
    assert "".join(parts)[:40] == long_text[:40]
    assert (new == old, new_text == old_text, swapped["to_digest"]) == (False, False, new)
    back = await ordered(served, "rollback", {})
    assert back["step"] in ("draining", "done"), back
    assert await text_of(served) == (old_text, old)
    assert served.held() == (0, 0)
    history = (await served.admin.get("/admin/history?planner=p")).json()["data"]
    assert {"swap.flipped", "rollback.flipped"} <= {entry["action"] for entry in history}
    findings = (await served.admin.get("/admin/verify")).json()["findings"]
    assert [found for found in findings if not found["ok"]] == []


async def test_three_answers_and_a_cancelled_request_leave_nothing(served):
    """n=3 is one request with one lease; so is one whose client stops waiting."""
    three = {"model": "p", **ASK, "n": 3, "temperature": 1}  # vLLM takes no n over 1 with greedy decoding
    answer = await served.http.post("/v1/chat/completions", json=three)
    assert (answer.status_code, len(answer.json()["choices"]), served.held()) == (200, 3, (0, 0))
    body = {**three, "max_tokens": 1500, "ignore_eos": True}
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await served.http.post("/v1/chat/completions", json=body)
    for _ in range(200):
        if served.held() == (0, 0):
            break
        await asyncio.sleep(0.01)
    assert served.held() == (0, 0)
