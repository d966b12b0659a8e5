"""``POST /v1/plans`` with ``stream``: events as they are made; clients that leave, engines that fail."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgi_call import AsgiCall
from live_server import leases, live
from request_kinds import PLAN, TASK, held, until

from planners import Plan, PlanMeta, PlanStep
from s3lora_serve.control.operation import Order, Wanted

STREAM = {**TASK, "stream": True}
OPERATOR = Order(actor="test")


def events(text):
    """(name, data) of each event of a stream; every event must be well-formed."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        assert name.startswith("event: ")
        assert data.startswith("data: ")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_the_steps_of_a_stream_are_the_plan(served, app, ended):
    """Each step is an event, the meta is the last one; together they are the plan that comes unstreamed."""
    call, whole = AsgiCall(app, PLAN, STREAM), AsgiCall(app, PLAN, TASK)
    await asyncio.gather(call, whole)
    found = events(call.text)
    steps = tuple(PlanStep.model_validate(data) for name, data in found if name == "step")
    plan = Plan.model_validate_json(whole.text)
    assert [name for name, _ in found] == ["step"] * len(plan.steps) + ["meta"]
    assert (steps, PlanMeta.model_validate(found[-1][1]).revision) == (plan.steps, plan.meta.revision)
    assert (call.complete, ended) == (True, [("p", "active", "ok")] * 2)
    assert "null" not in call.text


async def test_a_stream_has_the_headers_of_a_plan(served, app):
    """Who plans is known before the first step, and nothing on the way may collect or keep what is sent."""
    call = AsgiCall(app, PLAN, STREAM, {"x-request-id": "r7"})
    await call
    wanted = {
        "content-type": "text/event-stream; charset=utf-8",
        "x-request-id": "r7",
        "x-s3lora-engine": "fake",
        "x-s3lora-planner": "p",
        "x-s3lora-revision": "0" * 64,
        "x-s3lora-role": "active",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    assert call.headers == wanted


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"planner": "x"}, 404, "unknown_planner"),
        ({"tools": []}, 400, "invalid_request"),
        ({"max_steps": 99}, 400, "invalid_request"),
        ({"revision": "abcdef01"}, 409, "revision_mismatch"),
    ],
)
async def test_what_fails_at_once_has_a_status(served, app, ended, change, status, code):
    """Before the first step an error is told as it is without streaming, and not inside a 200."""
    call = AsgiCall(app, PLAN, {**STREAM, **change})
    await call
    assert (call.status, json.loads(call.text)["error"]["code"]) == (status, code)
    assert (call.headers["content-type"], held(served)) == ("application/json", (0, 0))


async def test_an_engine_that_dies_in_mid_stream_ends_it_with_an_error(served, app, ended):
    """The steps that were sent stay; then comes one ``error`` in our shape, and the stream ends."""
    served.engine.seconds_per_token = 0.002
    call = AsgiCall(app, PLAN, STREAM)
    await until(lambda: "event: step" in call.text)
    served.engine.die()
    await call
    (name, data), *before = reversed(events(call.text))
    assert (name, data["error"]["code"], data["error"]["type"]) == ("error", "engine_dead", "server_error")
    assert {name for name, _ in before} == {"step"}
    assert (call.status, call.complete, ended) == (200, True, [("p", "active", "aborted")])


async def test_a_stream_that_outlasts_the_drain_is_cut_with_an_error(served, app, ended):
    """A withdrawn revision stops planning: the client is told so and can ask again."""
    served.engine._plan = lambda prompt: "Plan: a\n#E1 = Search[b]\nPlan: " + "so " * 9000
    served.engine.seconds_per_token = 0.002
    call = AsgiCall(app, PLAN, STREAM)
    await until(lambda: "event: step" in call.text)
    await served.done(await served.service.control.swap("p", Wanted(source="n"), OPERATOR))
    await call
    assert (events(call.text)[-1][1]["error"]["code"], ended) == ("lease_cut", [("p", "active", "aborted")])


async def test_a_defect_in_mid_stream_is_told_without_details(served, app, monkeypatch, caplog):
    """An unexpected exception ends the stream with ``internal_error`` and an id; the log has the rest."""
    step = PlanStep(id="#E1", thought="t", tool="A", tool_input="x")

    async def broken(*arguments, leased, **more):
        async with served.service.lease("p") as lease:
            leased(lease)
            yield step
            raise RuntimeError("secret /srv/detail")

    monkeypatch.setattr(served.service, "stream_plan", broken)
    call = AsgiCall(app, PLAN, STREAM, {"x-request-id": "r8"})
    await call
    (_, first), (name, data) = events(call.text)
    assert (PlanStep.model_validate(first), name, data["error"]["code"]) == (step, "error", "internal_error")
    assert ("r8" in data["error"]["message"], "secret" in call.text) == (True, False)
    assert ("secret /srv/detail" in caplog.text, call.complete) == (True, True)


@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_ends_its_stream(served, app, ended, begun):
    """Before the first step or after it: the engine stops, the lease is given back, nothing more is sent."""
    served.engine.seconds_per_token = 0.02
    gate = None if begun else served.engine.hold_requests("p@*")
    call = AsgiCall(app, PLAN, STREAM)
    await until(lambda: "event: step" in call.text if begun else gate.waiting)
    served.engine.seconds_per_token = 60
    assert held(served) == (1, 1)
    call.leave()
    await call
    assert (held(served), ended) == ((0, 0), [("p", "active", "aborted")])
    assert (call.complete, "event: meta" in call.text) == (False, False)


async def test_steps_arrive_while_planning_goes_on(fleet):
    """Over a real socket: the first step is with the client while the engine still writes the second."""
    async with live(fleet, 0.02) as http, http.stream("POST", PLAN, json=STREAM) as answer:
        lines = answer.aiter_lines()
        while await anext(lines) != "event: step":
            pass
        assert sum(fleet.service.get("p").leases.values()) == 1
        rest = [line async for line in lines]
    assert sum(line == "event: step" for line in rest) == 1
    assert leases(fleet) == {("active", "ok"): 1}


async def test_a_client_that_vanishes_in_mid_stream_frees_the_engine(fleet):
    """Over a real socket: its connection is cut after the first step; the engine's request is aborted."""
    async with live(fleet, 0.01) as http:
        async with http.stream("POST", PLAN, json=STREAM) as answer:
            async for line in answer.aiter_lines():
                if line == "event: step":
                    break
            fleet.engine.seconds_per_token = 60
        await until(lambda: not sum(fleet.service.get("p").leases.values()))
        slot = fleet.service.get("p").slot
        assert (fleet.engine.running(slot), leases(fleet)) == (0, {("active", "aborted"): 1})
        fleet.engine.seconds_per_token = 0
        again = await http.post(PLAN, json=TASK)
    assert again.status_code == 200


async def test_a_client_that_does_not_read_is_no_trouble_to_others(fleet):
    """One client opens streams and reads nothing; other clients are answered meanwhile."""
    async with live(fleet, 0.0) as http:
        url = http.base_url
        deaf = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection(url.host, url.port, limit=1)
            body = json.dumps(STREAM).encode()
            head = f"POST {PLAN} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            writer.write(head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body)
            deaf.append((reader, writer))
        answers = await asyncio.gather(*(http.post(PLAN, json=TASK) for _ in range(20)))
        await until(lambda: not sum(fleet.service.get("p").leases.values()))
        for _, writer in deaf:
            writer.transport.abort()
    assert [answer.status_code for answer in answers] == [200] * 20
