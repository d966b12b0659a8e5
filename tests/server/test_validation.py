"""Bodies that hold what no engine, answer or log can take are refused where they are read."""

from __future__ import annotations

import json

import pytest
from fleet_factory import BASE
from hypothesis import given
from hypothesis import strategies as st
from request_kinds import ASK, CHAT, PLAN, SAY, TASK, TEXT
from starlette.requests import Request

from s3lora_serve.server.validation import RequestRefused, parse_object

JSON = {"content-type": "application/json"}
ANY_TEXT = st.text(st.characters(codec=None), max_size=5)  # halves of surrogate pairs, too
ANY_JSON = st.recursive(
    ANY_TEXT | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


def parsed(body):
    """What is read of these bytes."""
    return parse_object(body, Request({"type": "http", "headers": [(b"content-type", b"application/json")]}))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"a": "x\ud83d"}, "a: holds"),
        ({"a": "\ude00\ud83d"}, "a: holds"),
        (
            {"messages": [{"content": "fine"}, {"content": [{"text": "\udfff"}]}]},
            "messages[1].content[0].text: holds",
        ),
        ({"a": {"b": {"\ud800": 1}}}, "a.b: the name of a field holds"),
        ({"\ud800": 1}, "the name of a field holds"),
        ({"a" * 500: "\ud800"}, "a" * 80 + ": holds"),
    ],
)
@pytest.mark.parametrize("coding", ["utf-8", "utf-16", "utf-32-le"])
@pytest.mark.parametrize("escaped", [True, False])
def test_half_a_character_is_named_by_its_field(fields, says, coding, escaped):
    """As an escape or as bytes, in each encoding that JSON may have: a 400 that says where, and not what."""
    body = json.dumps(fields, ensure_ascii=escaped).encode(coding, "surrogatepass")
    with pytest.raises(RequestRefused) as refused:
        parsed(body)
    error = refused.value
    assert (error.status, error.reason) == (400, "invalid_request")
    assert str(error) == f"{says} half a surrogate pair, not a character"
    assert (error.param or "") == says.partition(": ")[0].removesuffix("the name of a field holds")


def test_a_deep_place_is_named_by_its_end():
    """Of a thousand steps the last dozen, so that the answer is short."""
    body = b'{"a":' * 900 + b'"\\ud800"' + b"}" * 900
    with pytest.raises(RequestRefused, match=r"^(a\.){11}a: holds half"):
        parsed(body)


@pytest.mark.parametrize(
    "body",
    [
        rb'{"a": "\ud83d\ude00"}',
        rb'{"a": "\\ud800"}',
        rb'{"a": "\\\ud83d\ude00 \\\\ud800 \n \u0041"}',
        rb'{"a": "C:\\users", "b": "\uD83D\uDE00\uD83D\uDE00"}',
        '{"a": "\U0001f600"}'.encode(),
        rb'{"a": "\ud800", "a": "what counts"}',
    ],
)
def test_whole_characters_are_read(body):
    """Pairs of escapes, backslashes before what only looks like one, and what another field replaces."""
    assert parsed(body) == json.loads(body)


@given(ANY_JSON, st.booleans())
def test_what_is_refused_could_not_be_written(value, escaped):
    """Exactly those bodies that have a text in them with half a pair."""
    body = json.dumps({"a": value}, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    read = json.loads(body)
    try:
        json.dumps(read, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(RequestRefused):
            parsed(body)
    else:
        assert parsed(body) == read


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {**ASK, "messages": [{"role": "user", "content": "\ud83d"}]}, "messages[0].content"),
        (CHAT, {**ASK, "model": BASE, "tools": [{"function": {"name": "\ud83d"}}]}, "tools[0].function.name"),
        (CHAT, {**ASK, "s3lora": {"plan": {"evidence": {"#E1": "\ud83d"}}}}, "s3lora.plan.evidence.#E1"),
        (CHAT, {**ASK, "model": "\ud83d"}, "model"),
        (TEXT, {**SAY, "prompt": ["fine", "\ud83d"]}, "prompt[1]"),
        (TEXT, {**SAY, "stop": "\ud83d"}, "stop"),
        (PLAN, {**TASK, "task": "\ud83d"}, "task"),
        (PLAN, {**TASK, "tools": [{"name": "A", "description": "\ud83d"}]}, "tools[0].description"),
        (PLAN, {**TASK, "evidence": {"\ud83d": "x"}}, "evidence"),
        (PLAN, {**TASK, "\ud83d": 1}, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_route_refuses_half_a_character(http, path, body, param, stream):
    """Before anything is asked of an engine, for planners and the base model, with the field's name."""
    answer = await http.post(path, content=json.dumps({**body, "stream": stream}), headers=JSON)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert "half a surrogate pair" in error["message"]
