"""What the server refuses or fails at, as errors that callers can act on."""

from __future__ import annotations

import pickle
import threading

import pytest
from threaded_server import threaded_server, wait_until

from planners.client import PlannerClient
from planners.client import errors as client_errors
from planners.client.errors import (
    ConnectionFailed,
    InvalidPlan,
    Overloaded,
    PlanIncomplete,
    PlannerAPIError,
    RevisionMismatch,
    ServerUnavailable,
    UnknownPlanner,
)
from s3lora_serve.config import ServerConfig
from s3lora_serve.engine.fake.fake_text import write_plan

RAMBLING = "Plan: " + "and so on " * 3_000


def both_ways(asked, *given, **asking):
    """The errors of the whole plan and of the stream."""
    errors = []
    for ask in (asked.plan, asked.chunks):
        with pytest.raises(PlannerAPIError) as caught:
            ask(*given, **asking)
        errors.append(caught.value)
    return errors


def test_an_unknown_planner_is_named_with_those_there_are(client, served):
    """Before a stream begins, errors are the same as for a whole plan."""
    for error in both_ways(client(served.url, planner="nobody"), "x", ["A"]):
        assert (type(error), error.status, error.code) == (UnknownPlanner, 404, "unknown_planner")
        assert ("planners: p, q" in str(error), len(error.request_id) > 8) == (True, True)


def test_another_revision_is_told(client, served):
    """The error holds what serves instead, so that the caller can decide anew."""
    for error in both_ways(client(served.url, planner="p"), "x", ["A"], revision="f" * 12):
        assert (type(error), error.status, error.revision, error.generation) == (
            RevisionMismatch,
            409,
            "0" * 64,
            1,
        )


def test_a_limit_is_named_with_its_field(client, served):
    """What only the server knows comes as the base error."""
    for error in both_ways(client(served.url, planner="p"), "x", [f"T{n}" for n in range(65)]):
        assert (type(error), error.status, error.code, error.param) == (
            PlannerAPIError,
            400,
            "over_limit",
            "tools",
        )


def test_an_invalid_plan_comes_with_its_problems(client, tmp_path):
    """Without a grammar and without repair, what is wrong is told as problems of the contract."""
    text = "Plan: Use it.\n#E1 = Nothing[x]"
    with threaded_server(tmp_path, "p", plan=lambda _: text) as server:
        for error in both_ways(client(server.url, planner="p"), "x", ["A"], constraint="none"):
            assert (type(error), error.status) == (InvalidPlan, 422)
            assert [(p.kind, p.step) for p in error.problems] == [("unknown_tool", "#E1")]


def test_a_plan_that_was_cut_off(client, tmp_path):
    """Nothing is asked again unless repair was."""
    asked = []

    def ramble(prompt):
        asked.append(prompt)
        return RAMBLING

    with threaded_server(tmp_path, "p", plan=ramble) as server:
        for error in both_ways(client(server.url, planner="p"), "x", ["A"]):
            assert (type(error), error.code, "fewer than 8 steps" in str(error)) == (
                PlanIncomplete,
                "plan_incomplete",
                True,
            )
    assert len(asked) == 2


def test_repair_asks_for_less_and_says_so(client, tmp_path):
    """Half the steps until something whole comes back; the plan's meta counts each time, and names it."""
    asked = []

    def ramble_unless_short(prompt):
        asked.append(prompt.steps)
        return RAMBLING if prompt.steps > 2 else write_plan(prompt)

    with threaded_server(tmp_path, "p", plan=ramble_unless_short) as server:
        slow = client(server.url, planner="p")
        whole = slow.plan("x", ["A"], repair=True)
        streamed = sum(slow.chunks("x", ["A"], repair=True))
    assert asked == [8, 4, 2, 8, 4, 2]
    notes = [
        f"asked again for at most {n} steps of {text} characters, since the plan was cut off"
        for n, text in ((4, 120), (2, 60))
    ]
    for plan in (whole, streamed):
        assert (plan.meta.repairs, list(plan.meta.repair_notes), len(plan.steps)) == (2, notes, 2)


def test_repair_ends(client, tmp_path):
    """After two shorter questions the cut is the answer."""
    asked = []

    def ramble(prompt):
        asked.append(prompt.steps)
        return RAMBLING

    with (
        threaded_server(tmp_path, "p", plan=ramble) as server,
        pytest.raises(PlanIncomplete, match="fewer than 2 steps"),
    ):
        client(server.url, planner="p").plan("x", ["A"], repair=True)
    assert asked == [8, 4, 2]


def test_a_busy_server_says_when_to_come_back(client, tmp_path):
    """Overloaded has the seconds; with retries left, the next attempt gets the plan."""
    with threaded_server(tmp_path, "p", settings=ServerConfig(max_concurrent=1)) as server:
        gate = server.do(lambda: server.fleet.engine.hold_requests("*"))
        first = threading.Thread(target=client(server.url, planner="p").plan, args=("x", ["A"]))
        first.start()
        wait_until(lambda: gate.waiting)
        errors = both_ways(client(server.url, planner="p", retries=0), "x", ["A"])
        threading.Timer(0.05, server.do, args=(gate.open,)).start()
        plan = client(server.url, planner="p", retries=5).plan("x", ["A"])
        first.join(60)
    assert [(type(e), e.status, e.retry_after) for e in errors] == [(Overloaded, 429, 1.0)] * 2
    assert len(plan.steps) == 2


def test_an_engine_that_dies_in_mid_stream(client, tmp_path):
    """The error has the steps that came before; the stream is not begun again."""
    with threaded_server(tmp_path, "p") as server:
        server.fleet.engine.seconds_per_token = 0.01
        server.do(lambda: server.fleet.engine.die_during("stream", "p@*", after=9))
        with pytest.raises(ServerUnavailable) as caught:
            client(server.url, planner="p").chunks("x", ["A", "B"])
        assert ([step.id for step in caught.value.steps], caught.value.status) == (["#E1"], None)
        assert (server.requests("error"), server.requests("ok")) == (1, 0)


def test_nobody_listens(client):
    """The address and the next step are in the message; it was tried again."""
    with pytest.raises(ConnectionFailed, match=r"http://127\.0\.0\.1:9: .*; does the server run there\?"):
        client("http://127.0.0.1:9", planner="p", retries=0).plan("x", ["A"])


def test_a_server_that_takes_too_long(client, served):
    """The client's own timeout is told apart, and not tried again."""
    served.do(lambda: served.fleet.engine.hold_requests("*"))
    with pytest.raises(ConnectionFailed, match="raise the client's timeout") as caught:
        client(served.url, planner="p", timeout=0.3).plan("x", ["A"])
    assert (caught.value.code, caught.value.status) == ("timeout", None)


def test_errors_pass_between_processes(served):
    """Pickled and read back, they are what they were."""
    with PlannerClient(served.url, planner="p") as asked, pytest.raises(RevisionMismatch) as caught:
        asked.plan("x", ["A"], revision="f" * 12)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), again.__dict__, str(again)) == (
        RevisionMismatch,
        caught.value.__dict__,
        str(caught.value),
    )


def test_the_tree_is_drawn_as_it_is():
    """The docstring names every class."""
    kinds = {
        v.__name__
        for v in vars(client_errors).values()
        if isinstance(v, type) and v.__module__ == client_errors.__name__
    }
    assert {name for name in kinds if f"``{name}``" not in client_errors.__doc__} == set()
