"""What comes over the wire, read whatever its shape; and when a request is sent again."""

from __future__ import annotations

import json
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planners import Plan, PlanMeta, PlanStep
from planners.client import PlannerClient
from planners.client import errors as client_errors
from planners.client import retry as client_retry
from planners.client.answers import PlanEvents
from planners.client.errors import ConnectionFailed, Overloaded, PlannerAPIError, ServerUnavailable
from s3lora_serve.server.error_responses import STATUS, error_body
from s3lora_serve.server.sse import named

STEPS = (
    PlanStep(id="#E1", thought="Æ 💥 of it", tool="A", tool_input="über"),
    PlanStep(id="#E2", thought="data: x", tool="B", arguments={"key": "#E1", "none": None}),
)
META = PlanMeta(planner="p", revision="0" * 64, base_model="b")
WIRE = b"".join(
    [
        *(named("step", step.model_dump_json(exclude_none=True)) for step in STEPS),
        b": a comment\n\nretry: 5\nid: 3\n\n",
        named("meta", META.model_dump_json(exclude_none=True)),
    ]
)
EVENTS = {"content-type": "text/event-stream; charset=utf-8"}


def read(*pieces):
    """The plan in these bytes."""
    events = PlanEvents()
    chunks = [chunk for piece in pieces for chunk in events.feed(piece)]
    events.finish()
    return sum(chunks)


def asked(handler, retries=0):
    """A client of an application that is a function of the request."""
    return PlannerClient(
        "http://there",
        planner="p",
        retries=retries,
        http=httpx.Client(transport=httpx.MockTransport(handler)),
    )


@given(cuts=st.lists(st.integers(0, len(WIRE))), crlf=st.booleans())
def test_any_pieces_give_the_same_plan(cuts, crlf):
    """Wherever the network cuts, also inside a character, and with either line ending."""
    wire = WIRE.replace(b"\n", b"\r\n") if crlf else WIRE
    ends = [0, *sorted(cuts), len(wire)]
    assert read(*(wire[a:b] for a, b in pairwise(ends))) == Plan(steps=STEPS, meta=META)


@given(st.integers(0, len(WIRE) - 2))
def test_a_stream_that_ends_early_is_no_plan(end):
    """Without the meta it is an error, which has the steps that were whole."""
    with pytest.raises(ConnectionFailed) as caught:
        read(WIRE[:end])
    assert caught.value.steps == STEPS[: len(caught.value.steps)]
    assert caught.value.code == "stream_broken"


_LINES = st.sampled_from(
    [b"event: step", b"event: meta", b"event: error", b"data: {}", b"data: [", b"", b"\r"]
)


@given(st.lists(st.binary(max_size=20) | _LINES).map(b"\n".join))
def test_other_bytes_are_an_error_of_ours(wire):
    """Whatever arrives, no other exception leaves the reader."""
    with pytest.raises(PlannerAPIError):
        read(wire)


def test_an_error_event_has_the_steps_before_it():
    """Its class follows from the code, or from OpenAI's type, since it has no status."""
    step, _, _ = WIRE.partition(b"\n\n")
    body = json.dumps(error_body(503, "another revision serves", code="lease_cut")).encode()
    with pytest.raises(ServerUnavailable, match="another revision serves") as caught:
        read(step + b"\n\nevent: error\ndata: " + body + b"\n\n")
    assert (caught.value.steps, caught.value.code, caught.value.status) == (STEPS[:1], "lease_cut", None)


def test_an_endless_line_is_refused():
    """A server that never ends a line cannot fill the client's memory."""
    with pytest.raises(ConnectionFailed, match="4194304 bytes"):
        read(*[b"x" * 100_000] * 100)


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_server_has_its_class(kind):
    """By name where there is one, else by status: 429 is overload, 5xx is the server's fault.

    Whatever a guard withholds is one class of its own.
    """
    status = STATUS[kind]
    body = error_body(status, "because", code=kind.code)
    with (
        asked(lambda _: httpx.Response(status, json=body)) as client,
        pytest.raises(PlannerAPIError) as caught,
    ):
        client.plan("x", ["A"])
    by_status = Overloaded if status == 429 else ServerUnavailable if status >= 500 else PlannerAPIError
    assert (type(caught.value), caught.value.code) == (
        getattr(client_errors, "PlanRefused" if "Guard" in kind.__name__ else kind.__name__, by_status),
        kind.code,
    )


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<h1>It works</h1>"),
        httpx.Response(200, json={"object": "list"}),
        httpx.Response(404, text="no such page"),
        httpx.Response(307, headers={"location": "https://elsewhere"}),
        httpx.Response(204),
    ],
    ids=["page", "other json", "404", "redirect", "empty"],
)
def test_another_server_is_recognised(answer):
    """What answers, but not as ours does, is told with its address."""
    for ask in (PlannerClient.plan, lambda *given: list(PlannerClient.stream(*given))):
        with asked(lambda _: answer) as client, pytest.raises(PlannerAPIError, match="http://there/v1/plans"):
            ask(client, "x", ["A"])


def test_it_is_sent_again_for_what_passes(monkeypatch):
    """429, 503 and broken connections, each with a pause, until it is answered."""
    monkeypatch.setattr(client_retry, "FIRST_PAUSE", 0)
    plan = Plan(steps=STEPS, meta=META).model_dump(mode="json", exclude_none=True)
    answers = iter([httpx.ConnectError("refused"), 503, 429, httpx.RemoteProtocolError("gone"), plan])

    def handler(_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return httpx.Response(answer, json=error_body(answer, "busy", code="engine_dead"))
        return httpx.Response(200, json=answer)

    with asked(handler, retries=4) as client:
        assert client.plan("x", ["A"]) == Plan(steps=STEPS, meta=META)


@pytest.mark.parametrize(
    ("status", "code", "after"),
    [
        (500, "internal_error", None),
        (502, "engine_error", None),
        (400, "invalid_request", None),
        (503, "plan_timeout", "10"),
        (503, "engine_dead", "600"),
    ],
)
def test_it_is_not_sent_again_for_what_stays(status, code, after):
    """Faults, refusals, plans that took too long, and a server that wants to be left alone for long."""
    calls = []

    def handler(request):
        calls.append(request)
        headers = {"retry-after": after} if after else {}
        return httpx.Response(status, json=error_body(status, "no", code=code), headers=headers)

    with asked(handler, retries=5) as client, pytest.raises(PlannerAPIError) as caught:
        client.plan("x", ["A"])
    assert (len(calls), caught.value.retry_after) == (1, float(after) if after else None)


def test_a_stream_that_began_is_not_begun_again():
    """A connection that breaks after the first step is the caller's to know: the steps are on the error."""
    calls = []

    def handler(request):
        calls.append(request)

        def broken():
            yield WIRE[: WIRE.index(b"\n\n") + 2]
            raise httpx.ReadError("reset")

        return httpx.Response(200, headers=EVENTS, content=broken())

    with asked(handler, retries=5) as client, pytest.raises(ConnectionFailed, match="reset") as caught:
        list(client.stream("x", ["A"]))
    assert (len(calls), caught.value.steps) == (1, STEPS[:1])


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 8.75), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("soon", 0.5, 0.625), (None, 0.5, 0.625)],
)
def test_the_pause_is_what_the_server_asks_for(monkeypatch, header, least, most):
    """Never less than Retry-After, whether seconds or a date; a little more, so that not all come at once."""
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    headers = {"retry-after": header} if header else {}
    body = error_body(429, "busy", code="overloaded")
    with (
        asked(lambda _: httpx.Response(429, json=body, headers=headers), retries=1) as client,
        pytest.raises(Overloaded),
    ):
        client.plan("x", ["A"])
    assert [least <= pause <= most for pause in pauses] == [True]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8000", "is not an address"),
        ("ftp://x", "is not an address"),
        ("http://", "is not an address"),
        ("http://x:port", "is not an address"),
        ("http://u:hunter2@x", "give the key as api_key"),
        ("http://x/?a=1", "is not an address"),
    ],
)
def test_an_address_must_be_one(url, why):
    """Refused when the client is made; a password in it is not repeated."""
    with pytest.raises(ValueError, match=why) as caught:
        PlannerClient(url)
    assert "hunter2" not in str(caught.value)
