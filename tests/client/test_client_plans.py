"""The clients against the real server: whole plans, streams, and what is sent."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from fleet_factory import KEY
from stall import stall
from threaded_server import threaded_server, wait_until

from planners import PlannerInput, PlanRequest, ToolSpec
from planners.client import AsyncPlannerClient, PlannerClient
from planners.client.errors import PlannerAPIError

TASK = "Who directed Inception?"
LOOKUP = ToolSpec(
    name="Lookup",
    description="find a record",
    parameters={"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_a_task_gets_a_valid_plan(client, served, ending):
    """However the address is written: a plan without problems, and the planner that made it."""
    plan = client(served.url + ending, planner="p").plan(TASK, ["Search", "LLM"])
    assert (plan.problems(["Search", "LLM"]), len(plan.steps), plan.meta.planner) == ((), 2, "p")


def test_chunks_add_up_to_the_plan(client, served):
    """One step each, the last with the meta alone; together they are what is answered whole."""
    asked = client(served.url, planner="p")
    chunks = asked.chunks(TASK, ["Search", "LLM"])
    whole = asked.plan(TASK, ["Search", "LLM"])
    assert [(len(c.steps), c.meta is not None) for c in chunks] == [(1, False), (1, False), (0, True)]
    assert (sum(chunks).steps, sum(chunks).meta.revision) == (whole.steps, whole.meta.revision)


@pytest.mark.parametrize("tool", ["Search", ToolSpec(name="Search"), {"name": "Search"}])
def test_tools_are_given_as_specs_dicts_or_names(client, served, tool):
    """All three mean the same tool."""
    plan = client(served.url, planner="p").plan(TASK, [tool])
    assert {step.tool for step in plan.steps} == {"Search"}


def test_arguments_come_back_as_json(client, tmp_path):
    """A tool with parameters gets arguments, whole and streamed."""
    text = 'Plan: Look.\n#E1 = Lookup{"key": "x"}\nPlan: Look on.\n#E2 = Lookup{"key": "[#E1]"}'
    with threaded_server(tmp_path, "p", plan=lambda _: text) as server:
        asked = client(server.url, planner="p")
        for plan in (asked.plan(TASK, [LOOKUP]), sum(asked.chunks(TASK, [LOOKUP]))):
            assert (plan.problems([LOOKUP]), [step.arguments for step in plan.steps]) == (
                (),
                [{"key": "x"}, {"key": "[#E1]"}],
            )


def test_without_tools_the_planners_own_are_taken(client, tmp_path):
    """They are the server's to know; an empty list is not the same as none."""
    with threaded_server(tmp_path, "p", tools=(ToolSpec(name="Own"),)) as server:
        asked = client(server.url, planner="p")
        plan = asked.plan(TASK)
        with pytest.raises(PlannerAPIError, match="empty list") as caught:
            asked.plan(TASK, [])
    assert ({step.tool for step in plan.steps}, caught.value.param) == ({"Own"}, "tools")


def test_a_request_is_taken_as_it_is_and_names_go_before(client, served):
    """A PlannerInput's fields are sent; what the call names replaces them."""
    request = PlanRequest(
        planner="q",
        task=TASK,
        tools=[ToolSpec(name="A")],
        evidence={"#E1": "known"},
        max_steps=2,
        stream=True,
    )
    asked = client(served.url, planner="p")
    plan, other = asked.plan(request), asked.plan(request, ["B"], planner="p", max_steps=1)
    assert (plan.meta.planner, [s.id for s in plan.steps], plan.problems(["A"], ["#E1"])) == (
        "q",
        ["#E2", "#E3"],
        (),
    )
    assert (other.meta.planner, [(s.id, s.tool) for s in other.steps]) == ("p", [("#E2", "B")])


def test_only_what_was_given_is_sent(served):
    """What is left out, or None, is for the server to decide; the session goes into its header."""
    sent = []
    with (
        httpx.Client(event_hooks={"request": [sent.append]}) as http,
        PlannerClient(served.url, planner="p", http=http) as asked,
    ):
        asked.plan(TASK, ["A"], temperature=None, session="épisode 7")
        list(asked.stream(PlannerInput(task=TASK, tools=[ToolSpec(name="A")]), seed=1))
    whole, streamed = (json.loads(request.content) for request in sent)
    assert whole == {"planner": "p", "task": TASK, "tools": [{"name": "A"}]}
    assert streamed == {**whole, "seed": 1, "stream": True}
    assert sent[0].headers["x-s3lora-session"] == "%C3%A9pisode 7"
    assert "x-s3lora-session" not in sent[1].headers


@pytest.mark.parametrize(
    ("asking", "why"),
    [
        ({"task": ""}, "task"),
        ({"tools": [{"name": "web search"}]}, "such as 'web_search'"),
        ({"max_stepz": 3}, "max_stepz"),
        ({"temperature": 3}, "temperature"),
        ({"planner": ""}, "client.planners"),
    ],
)
def test_what_the_contract_refuses_is_not_sent(client, asking, why):
    """A ValueError names the field at fault before a connection is made: nothing listens there."""
    given = {"task": TASK, "tools": ["A"], "planner": "p", **asking}
    with pytest.raises(ValueError, match=why):
        client("http://127.0.0.1:9").plan(**given)


def test_planners_are_listed(client, served):
    """Names and states, as the server says."""
    listed = client(served.url).planners()
    assert [(one["id"], one["state"]) for one in listed] == [("p", "serving"), ("q", "serving")]


def test_a_key_opens_and_is_not_shown(client, tmp_path, monkeypatch):
    """From the argument or the environment; a wrong one gets an error that says where it comes from."""
    with threaded_server(tmp_path, "p", api_key=KEY) as server:
        given = client(server.url, api_key=KEY, planner="p").plan(TASK, ["A"])
        with pytest.raises(PlannerAPIError, match="S3LORA_API_KEY") as caught:
            client(server.url, planner="p").plan(TASK, ["A"])
        monkeypatch.setenv("S3LORA_API_KEY", KEY)
        monkeypatch.setenv("S3LORA_BASE_URL", server.url + "/v1")
        found = client(planner="p").plan(TASK, ["A"])
    assert (given.steps, caught.value.status) == (found.steps, 401)
    assert KEY not in repr(client.kind(api_key=KEY)) + str(caught.value)


def test_a_stream_that_is_left_stops_the_engine(served):
    """Breaking out of the loop closes the connection; the request is aborted and does not run on."""
    served.do(lambda: stall(served.fleet.engine, after=9))  # in the second step
    with PlannerClient(served.url, planner="p") as asked:
        for chunk in asked.stream(TASK, ["A", "B"]):
            assert len(chunk.steps) == 1
            break
        wait_until(lambda: served.requests("aborted") == 1)
    assert served.requests("ok") == 0


async def test_an_async_stream_that_is_left_stops_the_engine(served):
    """The same for ``async for``."""
    served.do(lambda: stall(served.fleet.engine, after=9))
    async with AsyncPlannerClient(served.url, planner="p") as asked:
        async for chunk in asked.stream(TASK, ["A", "B"]):
            assert len(chunk.steps) == 1
            break
        await asyncio.to_thread(wait_until, lambda: served.requests("aborted") == 1)
    assert served.requests("ok") == 0


async def test_a_call_that_is_cancelled_stops_the_engine(served):
    """A caller that stops waiting for a whole plan frees the engine, and the client can be used again."""
    gate = served.do(lambda: served.fleet.engine.hold_requests("*"))
    async with AsyncPlannerClient(served.url, planner="p") as asked:
        asking = asyncio.create_task(asked.plan(TASK, ["A"]))
        await asyncio.to_thread(wait_until, lambda: gate.waiting)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.to_thread(wait_until, lambda: served.requests("aborted") == 1)
        served.do(gate.open)
        assert len((await asked.plan(TASK, ["A"])).steps) == 2


def test_a_client_of_your_own_stays_open(served):
    """What was not made here is not closed here."""
    with httpx.Client() as http:
        with PlannerClient(served.url, planner="p", http=http) as asked:
            asked.plan(TASK, ["A"])
        assert not http.is_closed
