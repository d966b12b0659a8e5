"""What is over a limit is refused by the setting's name; what is too many is told to come again."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from asgi_call import AsgiCall
from request_kinds import CHAT, KINDS, PLAN, TASK, TEXT, held, until

from planners import PlannerInput
from s3lora_serve.config import PlansConfig, ServerConfig
from s3lora_serve.server.app import create_app
from s3lora_serve.server.concurrency import ConcurrencyLimit
from s3lora_serve.server.limits import check_plan
from s3lora_serve.server.validation import RequestRefused

SMALL = PlansConfig(max_tools=3, max_steps=4, max_text=50)
TOOLS = [{"name": f"T{i}"} for i in range(4)]
OVER = {
    "tools": {"tools": TOOLS},
    "max_steps": {"max_steps": 5},
    "max_text": {"max_text": 51},
}


@pytest.fixture
def small(served):
    """The served fleet's application under small limits."""
    return create_app(served.service, ServerConfig(max_concurrent=2, max_n=2), None, SMALL)


def client(app):
    """A client in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


@pytest.mark.parametrize("field", sorted(OVER))
async def test_a_plan_over_a_limit_names_the_setting(small, served, field):
    """Field, value, limit and the setting that raises it; nothing reaches the engine."""
    async with client(small) as http:
        answer = await http.post(PLAN, json={**TASK, **OVER[field]})
    error = answer.json()["error"]
    setting = f"plans.{'max_' * (field == 'tools')}{field}"
    assert (answer.status_code, error["code"], error["param"]) == (400, "over_limit", field)
    assert setting in error["message"]
    assert f"over the limit of {getattr(SMALL, setting.removeprefix('plans.'))}" in error["message"]


async def test_a_plan_at_every_limit_is_planned(small):
    """The limits themselves are allowed."""
    body = {"tools": TOOLS[:3], "max_steps": 4, "max_text": 50}
    async with client(small) as http:
        assert (await http.post(PLAN, json={**TASK, **body})).status_code == 200


async def test_200_tools_are_over_the_usual_limit(app):
    """By default a server takes 64 tools, and says which setting takes more."""
    async with client(app) as http:
        answer = await http.post(PLAN, json={**TASK, "tools": [{"name": f"T{i}"} for i in range(200)]})
    assert (answer.status_code, answer.json()["error"]["message"]) == (
        400,
        "tools: 200 tools are offered, over the limit of 64 (plans.max_tools of this server)",
    )


async def test_fewer_steps_than_usual_bind_only_who_asks_for_more(small, served, monkeypatch):
    """A request that names no number of steps gets as many as it may have."""
    asked = []
    plan = served.service.plan

    async def watched(request, *arguments, **more):
        asked.append(request.max_steps)
        return await plan(request, *arguments, **more)

    monkeypatch.setattr(served.service, "plan", watched)
    async with client(small) as http:
        assert (await http.post(PLAN, json=TASK)).status_code == 200
    assert asked == [4]


def test_a_limit_is_told_where_the_field_stands():
    """In a chat request the fields of a plan stand deeper."""
    request = PlannerInput(task="x", tools=TOOLS)
    with pytest.raises(RequestRefused, match=r"s3lora\.plan\.tools: 4 tools") as caught:
        check_plan(request, None, SMALL, at="s3lora.plan.")
    assert caught.value.param == "s3lora.plan.tools"


def test_a_text_has_the_servers_bound_unless_it_asks_for_less():
    """``check_plan`` gives the bound to plan with."""
    request = PlannerInput(task="x", tools=TOOLS[:1], max_steps=1)
    assert [check_plan(request, asked, SMALL) for asked in (None, 20, 50)] == [50, 20, 50]


async def test_arguments_too_long_for_a_step_are_a_400(app):
    """A tool whose JSON no reader would take is refused by its name; shorter texts make it fit."""
    schema = {"type": "string"}
    for _ in range(3):
        schema = {"type": "array", "items": schema}
    tool = {"name": "deep", "parameters": {"type": "object", "properties": {"a": schema}}}
    async with client(app) as http:
        answers = [
            await http.post(PLAN, json={**TASK, "tools": [tool], **more}) for more in ({}, {"max_text": 16})
        ]
    error = answers[0].json()["error"]
    assert [answer.status_code for answer in answers] == [400, 200]
    assert (error["code"], error["param"]) == ("over_limit", "tools")
    assert "tool 'deep' may be" in error["message"]
    assert "over the limit of 40000; give its lists a smaller maxItems" in error["message"]


@pytest.mark.parametrize("path", [CHAT, TEXT, PLAN])
async def test_one_request_too_many_is_a_429_at_once(small, served, ended, path):
    """While as many as may be are answered, the next one is refused, whichever kind it is."""
    gate = served.engine.hold_requests("p@*")
    running = [AsgiCall(small, *KINDS["stream"]), AsgiCall(small, *KINDS["plan"])]
    await until(lambda: gate.waiting == 2)
    refused = AsgiCall(small, path, {})
    await refused
    error = json.loads(refused.text)["error"]
    assert (refused.status, error["code"], error["type"]) == (429, "overloaded", "rate_limit_error")
    assert ("server.max_concurrent" in error["message"], refused.headers["retry-after"]) == (True, "1")
    gate.open()
    await asyncio.gather(*running)
    assert [call.status for call in running] == [200, 200]
    after = AsgiCall(small, PLAN, TASK)
    await after
    assert (after.status, held(served)) == (200, (0, 0))


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/v1/planners", "/metrics", "/openapi.json"])
async def test_what_only_asks_is_answered_in_any_crowd(small, served, path):
    """Probes, metrics and lists do not count against the limit, so that a busy server is not restarted."""
    gate = served.engine.hold_requests("p@*")
    running = [AsgiCall(small, PLAN, TASK) for _ in range(2)]
    await until(lambda: gate.waiting == 2)
    async with client(small) as http:
        assert (await http.get(path)).status_code == 200
    gate.open()
    await asyncio.gather(*running)


async def test_a_refusal_is_counted_under_its_route(small, served):
    """Operators see how many were turned away, and where."""
    gate = served.engine.hold_requests("p@*")
    running = [AsgiCall(small, PLAN, TASK) for _ in range(2)]
    await until(lambda: gate.waiting == 2)
    await AsgiCall(small, PLAN, TASK)
    gate.open()
    await asyncio.gather(*running)
    lines = served.service.metrics.exposition().decode().splitlines()
    assert [line for line in lines if "_http_" in line and 'status="429"' in line and line.endswith(" 1.0")]


async def test_a_place_is_given_back_however_a_request_ends():
    """An answer, a failure and a cancellation each free the place that they had."""
    endings = []

    async def app(scope, receive, send):
        ending = scope["path"]
        endings.append(ending)
        if ending == "/fails":
            raise RuntimeError("x")
        if ending == "/hangs":
            await asyncio.Event().wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    sent = []

    async def send(message):
        sent.append(message.get("status"))

    limit = ConcurrencyLimit(app, most=1, paths=["/answers", "/fails", "/hangs"])
    scope = {"type": "http", "path": "/hangs"}
    hanging = asyncio.ensure_future(limit(scope, None, send))
    await asyncio.sleep(0)
    await limit({**scope, "path": "/answers"}, None, send)
    hanging.cancel()
    await asyncio.gather(hanging, return_exceptions=True)
    with pytest.raises(RuntimeError):
        await limit({**scope, "path": "/fails"}, None, send)
    await limit({**scope, "path": "/answers"}, None, send)
    assert (endings, [status for status in sent if status]) == (["/hangs", "/fails", "/answers"], [429, 200])
