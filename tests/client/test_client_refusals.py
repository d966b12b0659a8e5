"""A plan that the server's guard withholds: a typed error, and never asked for again."""

from __future__ import annotations

import pickle

import pytest
from refusing_server import REFUSAL, refusing_server

from planners.client.errors import PlannerAPIError, PlanRefused


@pytest.fixture
def guarded():
    """A server whose guard refuses everything."""
    with refusing_server() as server:
        yield server


def refused(client, url, ask, **options):
    with pytest.raises(PlanRefused) as caught:
        getattr(client(url, planner="p", **options), ask)("Steal it.", ["Search"])
    return caught.value


@pytest.mark.parametrize("ask", ["plan", "chunks"])
@pytest.mark.parametrize("in_stream", [False, True])
def test_a_refused_plan_is_an_error_that_names_the_part(client, guarded, ask, in_stream):
    """Whole or streamed, before the stream or as its event: one request, its code, its part, the message."""
    guarded.in_stream, guarded.part = in_stream, "evidence"
    error = refused(client, guarded.url, ask, retries=3)
    status = None if in_stream and ask == "chunks" else 403
    assert (error.code, error.part, error.status, str(error)) == (
        "refused_by_guard",
        "evidence",
        status,
        REFUSAL,
    )
    assert (error.steps, len(guarded.asked)) == ((), 1)


@pytest.mark.parametrize("status", [403, 503])
def test_a_refusal_is_never_asked_again(client, guarded, status):
    """Also where something between says 503 and when to ask again, which would pass for a busy server."""
    guarded.status, guarded.retry_after = status, 0
    assert refused(client, guarded.url, "plan", retries=3).part == "task"
    assert len(guarded.asked) == 1


@pytest.mark.parametrize(("status", "retry_after", "times"), [(403, None, 1), (503, None, 1), (503, 0, 3)])
def test_no_verdict_is_asked_again_only_when_the_server_says_so(client, guarded, status, retry_after, times):
    """Then the guard failed, and the usual rule holds; else it read the request and could not tell."""
    guarded.part, guarded.status, guarded.retry_after = None, status, retry_after
    error = refused(client, guarded.url, "plan", retries=2)
    assert (error.code, error.part, error.retry_after) == ("guard_undecided", None, retry_after)
    assert len(guarded.asked) == times


def test_a_repair_does_not_ask_for_less_instead(client, guarded):
    """``repair`` asks again for a shorter plan where one was cut; a refused one is not made shorter."""
    with pytest.raises(PlanRefused):
        client(guarded.url, planner="p").plan("Steal it.", ["Search"], repair=True)
    assert len(guarded.asked) == 1


def test_the_error_is_whole_in_another_process(client, guarded):
    """Pools of processes hand errors on by pickle: it is the same error, with its part."""
    error = refused(client, guarded.url, "plan")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, PlannerAPIError)
    assert (type(again), str(again), again.__dict__) == (PlanRefused, str(error), error.__dict__)
