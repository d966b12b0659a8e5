"""What becomes of requests when the server is told to stop: over sockets, with the fake engine."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import httpx
import pytest
from request_kinds import CHAT, KINDS, PLAN, TASK, held, until
from stall import stall

from s3lora_serve.config import ServerConfig
from s3lora_serve.config.live import SlotsConfig
from s3lora_serve.fleet.states import DeploymentState
from s3lora_serve.launch.http_protocol import HttpLimits
from s3lora_serve.launch.phases import Phases
from s3lora_serve.launch.servers import Server, address, serve_both
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.server.app import create_app

TOKEN = "t0ken"


class Served:
    """Both listeners of a fleet."""

    def __init__(self, fleet, notice, grace):
        self.fleet = fleet
        self.tcp = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.urls = [address(tcp) for tcp in self.tcp]
        apps = create_app(fleet.service, ServerConfig(), None), create_admin_app(fleet.service, TOKEN)
        servers = [Server(app, lambda: None, HttpLimits()) for app in apps]
        self.phases = Phases(servers, fleet.service.stop, notice, grace)
        self.running = asyncio.create_task(serve_both(*zip(servers, self.tcp, strict=True), self.phases))
        self.http = httpx.AsyncClient(base_url=self.urls[0], timeout=60)
        self.servers = servers

    async def ready(self):
        """Once both listen."""
        while not all(server.started for server in self.servers):
            await asyncio.sleep(0.005)
        return self

    async def begun(self, path, body):
        """An answer on its way, once the engine is at it."""
        asking = asyncio.create_task(self.http.post(path, json=body))
        await until(lambda: sum(server.requests for server in self.servers) > 0)
        await until(lambda: held(self.fleet)[0] > 0 or asking.done())
        return asking


@pytest.fixture
async def served(fleet_of):
    """``served(notice, grace)``: planner p, with these seconds."""
    all_served = []

    @asynccontextmanager
    async def serve(*others, notice=0.0, grace=0.2, **options):
        fleet = fleet_of("p", *others, **options)
        await fleet.start()
        one = Served(fleet, notice, grace)
        all_served.append(one)
        yield await one.ready()

    yield serve
    for one in all_served:
        for _ in range(3):
            one.phases.signal()
            await asyncio.sleep(0.01)
        await one.running
        await one.http.aclose()


def code(body):
    """The code of an error body."""
    return json.loads(body)["error"]["code"]


def leases(fleet):
    """Ended leases of p by outcome."""
    text = fleet.service.metrics.exposition().decode().splitlines()
    found = [line for line in text if line.startswith("s3lora_leases_total{") and 'planner="p"' in line]
    return {line.split('outcome="')[1].split('"')[0] for line in found if float(line.split()[-1])}


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_what_outlasts_the_grace_is_told_so(served, kind):
    """A stream ends with an error of its own, anything else gets a 503 with the time to try again."""
    path, body = KINDS[kind]
    async with served() as one:
        stall(one.fleet.engine, after=3)
        asking = await one.begun(path, body)
        one.phases.signal()
        answer = await asking
        await one.running
        last = answer.text.strip().split("\n\n")[-1]
        if answer.status_code == 200:
            assert body["stream"]
            assert code(last.partition("data: ")[2]) == "shutting_down"
        else:
            assert (answer.status_code, code(answer.text)) == (503, "shutting_down")
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["x-request-id"]
        assert leases(one.fleet) == {"aborted"}
        assert held(one.fleet) == (0, 0)


async def test_a_stream_of_steps_ends_with_an_error_event(served):
    """Whoever reads it cannot take what has come for the whole plan."""
    async with served() as one:
        one.fleet.engine.seconds_per_token = 0.01
        body = {**TASK, "stream": True, "tools": [{"name": "Search"}, {"name": "LLM"}]}
        async with one.http.stream("POST", PLAN, json=body) as answer:
            events = answer.aiter_lines()
            assert await anext(events) == "event: step"
            one.fleet.engine.seconds_per_token = 600
            one.phases.signal()
            rest = [line async for line in events]
        assert [line for line in rest if line.startswith("event")] == ["event: error"]
        assert code(rest[-2].removeprefix("data: ")) == "shutting_down"


async def test_who_asks_the_base_model_is_told_too(served):
    """Nothing is leased for it."""
    async with served() as one:
        one.fleet.engine.seconds_per_token = 600
        body = {"model": "fake-base", "messages": [{"role": "user", "content": "x"}]}
        base = asyncio.create_task(one.http.post(CHAT, json=body))
        await until(lambda: one.servers[0].requests)
        await asyncio.sleep(0.05)
        one.phases.signal()
        answer = await base
        assert (answer.status_code, code(answer.text)) == (503, "shutting_down")


async def test_who_waits_for_a_load_is_told_too(served):
    """Nothing is leased before it is there."""
    async with served("q", slots=SlotsConfig(wait_seconds=300), max_loras=1) as one:
        gate = one.fleet.engine.hold_loads("*")
        (out,) = (p.name for p in one.fleet.service.planners() if p.state is DeploymentState.EVICTED)
        waiting = asyncio.create_task(one.http.post(PLAN, json={**TASK, "planner": out}))
        await until(lambda: gate.waiting)
        one.phases.signal()
        answer = await waiting
        assert (answer.status_code, code(answer.text)) == (503, "shutting_down")
        gate.open()


async def test_a_body_that_never_comes_is_not_waited_for(served):
    """What no application can end is cancelled by the server, and told so in the same words."""
    async with served() as one:
        reader, writer = await asyncio.open_connection(*one.tcp[0].getsockname())
        writer.write(b"POST /v1/plans HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\n{")
        await until(lambda: one.servers[0].requests)
        for _ in range(3):
            one.phases.signal()
            await asyncio.sleep(0.05)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"x-request-id" in head
        assert code(body) == "shutting_down"
        writer.close()


async def test_first_it_is_not_ready_and_still_answers(served):
    """A load balancer sees it, and no request is lost until then; nobody is held to its connection."""
    async with served(notice=300, grace=600) as one:
        assert "connection" not in (await one.http.get("/readyz")).headers
        one.phases.signal()
        await until(lambda: one.fleet.service.stop.announced)
        ready = await one.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "stopping")
        answer = await one.http.post(PLAN, json=TASK)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_what_runs_has_the_grace_to_end(served):
    """New connections are refused by then, and its answer closes its connection."""
    async with served(grace=600) as one:
        one.fleet.engine.seconds_per_token = 0.05
        asking = await one.begun(PLAN, TASK)
        one.phases.signal()
        await until(one.fleet.service.stop.closing.is_set)
        await until(lambda: not one.servers[0].servers[0].is_serving())
        with pytest.raises(httpx.ConnectError):
            await httpx.AsyncClient().get(f"{one.urls[0]}/livez")
        answer = await asking
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        await one.running


async def test_a_second_signal_does_not_wait(served, caplog):
    """The client is told all the same, and what is cancelled on the way is no error in the log."""
    async with served(notice=300, grace=600) as one:
        stall(one.fleet.engine, after=3)
        asking = await one.begun(*KINDS["chat"])
        one.phases.signal()
        await until(lambda: one.fleet.service.stop.announced)
        one.phases.signal()
        answer = await asking
        await one.running
    assert (answer.status_code, code(answer.text)) == (503, "shutting_down")
    assert "second signal" in caplog.text
    assert [r for r in caplog.records if r.exc_info or r.levelname == "ERROR"] == []


async def test_who_waits_for_an_operation_is_answered_at_once(served):
    """With the operation as it is: a long poll is no request that the server owes its grace."""
    async with served(grace=600) as one:
        fleet = one.fleet
        fleet.shelf.put("new")
        gate = fleet.engine.hold_loads("*")
        admin = httpx.AsyncClient(
            base_url=one.urls[1], headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
        )
        async with admin:
            operation = (await admin.post("/admin/planners/p/swap", json={"source": "new"})).json()
            await until(lambda: gate.waiting)
            seen = (await admin.get(f"/admin/operations/{operation['id']}")).json()["step"]
            path = f"/admin/operations/{operation['id']}"
            waiting = asyncio.create_task(admin.get(path, params={"wait": 20, "seen": seen}))
            await until(lambda: one.servers[1].requests)
            one.phases.signal()
            answer = await waiting
        assert (answer.status_code, answer.json()["step"]) == (200, seen)
        await one.running
        gate.open()
