"""``/metrics``: ours, then the engine's, none twice."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app

THEIRS = """# HELP vllm:x Theirs.
# TYPE vllm:x gauge
vllm:x 1.0
# HELP s3lora_requests_total Ours, as a multiprocess registry would show it again.
# TYPE s3lora_requests_total counter
s3lora_requests_total{outcome="ok",planner="p"} 99.0
"""


async def scrape(fleet, monkeypatch, *routes):
    """The lines of /metrics when the engine's application has these routes."""
    monkeypatch.setattr(fleet.engine, "openai_app", lambda: Starlette(routes=list(routes)))
    app = create_app(fleet.service, ServerConfig(), None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        answer = await http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text.splitlines()


async def test_the_engines_metrics_follow_without_ours(fleet, monkeypatch):
    """An engine in Prometheus' multiprocess mode collects ours as well: each series is there once."""
    lines = await scrape(fleet, monkeypatch, Route("/metrics", lambda request: PlainTextResponse(THEIRS)))
    ours = [line for line in lines if line.startswith('s3lora_requests_total{outcome="ok",planner="p"}')]
    assert (lines[-1], ours) == ("vllm:x 1.0", ['s3lora_requests_total{outcome="ok",planner="p"} 0.0'])


@pytest.mark.parametrize("status", [None, 500])
async def test_an_engine_without_metrics_leaves_ours(fleet, monkeypatch, status):
    """No route, or one that fails, does not take our metrics down."""
    routes = [Route("/metrics", lambda request: PlainTextResponse("no", status))] if status else []
    lines = await scrape(fleet, monkeypatch, *routes)
    assert [line for line in lines if not line.startswith(("s3lora_", "# "))] == []
    assert 's3lora_planner_up{planner="p"} 1.0' in lines
