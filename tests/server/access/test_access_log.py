"""The access log: one line for each request, which says who answered and at what cost."""

from __future__ import annotations

import asyncio
import logging

import pytest
from control_stub import TOKEN
from live_server import live
from request_kinds import CHAT, KINDS, PLAN, TASK, held, until

from s3lora_serve.fleet.log_context import log_context
from s3lora_serve.server.access.access_log import unread
from s3lora_serve.service.metrics.prometheus import Metrics

LOGGER = "s3lora_serve.access"


class Lines(logging.Handler):
    """What was logged of requests, and in which context."""

    def __init__(self):
        super().__init__()
        self.all = []

    def emit(self, record):
        self.all.append({"level": record.levelname, **record.fields, **log_context()})

    def of(self, **known):
        """The one line; it must say this."""
        (line,) = self.all
        assert {name: line[name] for name in known} == known
        return line


@pytest.fixture
def lines():
    """The access log."""
    lines, logger = Lines(), logging.getLogger(LOGGER)
    before = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    yield lines
    logger.setLevel(before)
    logger.removeHandler(lines)


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_an_answer_is_told_of(served, app, http_of, lines, kind):
    """Planner, revision, role and tokens, under the id that the client has."""
    path, body = KINDS[kind]
    async with http_of(app) as http:
        answer = await http.post(f"{path}?api_key=s3cret", json=body, headers={"x-request-id": "r1"})
    assert answer.status_code == 200
    line = lines.of(
        level="INFO", method="POST", route=path, status=200, planner="p", role="active", outcome="ok",
        request="r1", revision=served.service.get("p").revision.short, peer="127.0.0.1",
    )  # fmt: skip
    assert min(line["ms"], line["prompt_tokens"], line["output_tokens"]) > 0
    assert "s3cret" not in str(line)


async def test_the_base_model_is_told_of_too(app, http_of, lines):
    """It has tokens and no revision."""
    async with http_of(app) as http:
        await http.post(CHAT, json={**KINDS["chat"][1], "model": "fake-base"})
    line = lines.of(planner="fake-base", revision=None, role=None, outcome="ok")
    assert min(line["prompt_tokens"], line["output_tokens"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "told"),
    [
        ("GET", "/secret/path?token=x", {"route": "other", "status": 404, "outcome": "refused"}),
        ("POST", PLAN, {"route": PLAN, "status": 400, "outcome": "refused", "level": "INFO"}),
        ("GET", "/readyz", {"route": "/readyz", "status": 200, "outcome": "ok", "level": "DEBUG"}),
        ("GET", "/livez", {"route": "/livez", "level": "DEBUG"}),
    ],
)
async def test_refusals_and_probes(app, http_of, lines, method, path, told):
    """Each has a line; a path that is no route is not in it, and probes are told of at debug only."""
    async with http_of(app) as http:
        answer = await http.request(method, path, json={} if method == "POST" else None)
    line = lines.of(**told, planner=None)
    assert line["request"] == answer.headers["x-request-id"]
    assert "secret" not in str(line)


async def test_a_client_that_leaves_and_a_drain_that_ends(served, lines):
    """What the client ended is aborted; what the server ended is cut."""
    async with live(served, 30) as http:
        asking = asyncio.create_task(http.post(PLAN, json=TASK))
        await until(lambda: held(served) == (1, 1))
        asking.cancel()
        await until(lambda: lines.all)
        lines.of(outcome="aborted", planner="p")
        lines.all.clear()
        asking = asyncio.create_task(http.post(CHAT, json=KINDS["stream"][1]))
        await until(lambda: held(served) == (1, 1))
        served.service.stop.cut_requests()
        assert "shutting_down" in (await asking).text
        lines.of(outcome="cut", planner="p", role="active")


async def test_orders_are_told_of_by_their_route(admin, lines):
    """Not by the planner's name, which a client makes up."""
    async with admin as http:
        await http.get("/admin/planners/made-up")
    lines.of(route="/admin/planners/{name}", status=404)
    assert TOKEN not in str(lines.all)


def test_what_was_no_request_is_told_of(lines):
    """It has no id and no method; the count is the one of other paths."""
    metrics = Metrics()
    unread(metrics, 431, "192.0.2.7")
    lines.of(route="other", status=431, outcome="refused", peer="192.0.2.7", method=None)
    assert b'route="other",status="431"} 1.0' in metrics.exposition()
