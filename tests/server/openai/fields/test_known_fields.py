"""Fields of a chat that are misspelt are refused; others that do nothing pass, and the answer names them."""

from __future__ import annotations

import json

import pytest
from asgi_call import AsgiCall
from request_kinds import ASK, CHAT, SAY, TEXT

from s3lora_serve.config import ServerConfig
from s3lora_serve.server.app import create_app
from s3lora_serve.server.openai.fields.known_fields import (
    MOST_UNKNOWN,
    distance,
    meant,
    unknown_fields,
    warning,
)
from s3lora_serve.server.validation import RequestRefused

FUNCTION = {"name": "f", "parameters": {}}


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("temprature", "temperature"),
        ("maxtokens", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("topP", "top_p"),
        ("top-p", "top_p"),
        ("sed", "seed"),
        ("messsages", "messages"),
        ("stream_option", "stream_options"),
        ("reponse_format", "response_format"),
        ("responseformat", "response_format"),
        ("structured_output", "structured_outputs"),
        ("toolchoice", "tool_choice"),
        ("s3_lora", "s3lora"),
        ("S3LoRA", "s3lora"),
        ("meta_data", "metadata"),
    ],
)
def test_a_slip_is_refused_with_the_name_that_was_meant(name, known):
    """vLLM ignores unknown fields, so what a mistyped one asks for would be lost without a sign."""
    with pytest.raises(RequestRefused) as refused:
        unknown_fields({name: {"a": 1}}, chat=True)
    error = refused.value
    assert (error.status, error.reason, error.param, error.hint) == (
        400,
        "ignored_field",
        name,
        f"did you mean {known!r}?",
    )


@pytest.mark.parametrize(
    ("body", "path", "known"),
    [
        ({"stream_options": {"include_usages": True}}, "stream_options.include_usages", "include_usage"),
        (
            {"response_format": {"type": "text", "jsonschema": {}}},
            "response_format.jsonschema",
            "json_schema",
        ),
        (
            {"response_format": {"json_schema": {"shema": {}}}},
            "response_format.json_schema.shema",
            "schema",
        ),
        (
            {"tools": [{"function": FUNCTION}, {"function": {"name": "f", "paramters": {}}}]},
            "tools[1].function.paramters",
            "parameters",
        ),
        ({"tools": [{"functon": FUNCTION}]}, "tools[0].functon", "function"),
    ],
)
def test_a_slip_inside_a_promise_is_refused_with_its_path(body, path, known):
    """A schema under a misspelt name constrains nothing."""
    with pytest.raises(RequestRefused) as refused:
        unknown_fields(body, chat=True)
    before = path.rpartition(".")[0]
    assert (refused.value.param, refused.value.hint) == (path, f"did you mean '{before}.{known}'?")


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ()),
        ({"temperature": 1, "s3lora": {}, "messages": [], "cache_salt": "x"}, ()),
        ({"provider": {}, "transforms": None, "top_logprobs": 1}, ("provider",)),
        ({"store": True, "metadata": {"a": "b"}, "verbosity": "low"}, ("store", "metadata", "verbosity")),
        ({"store": False, "metadata": {}, "modalities": ["text"], "service_tier": "auto"}, ()),
        ({"prompt": "x"}, ("prompt",)),
        (
            {"tools": [{"function": {**FUNCTION, "examples": []}, "x_cache": 1}]},
            ("tools[0].x_cache", "tools[0].function.examples"),
        ),
        ({"a": 1, "x" * 900: 1, "": 1}, ("a", "x" * 900, "")),
    ],
)
def test_what_does_nothing_is_found(body, paths):
    """Also OpenAI's own that mean nothing here, unless they ask for nothing."""
    assert unknown_fields(body, chat=True) == paths
    if paths:
        with pytest.raises(RequestRefused, match=r"server\.strict_fields") as refused:
            unknown_fields(body, chat=True, strict=True)
        assert refused.value.param == paths[0][:80]


def test_a_completion_has_other_fields():
    """What only a chat has does nothing there, and the other way round."""
    assert unknown_fields({"prompt": "x", "suffix": "y", "messages": []}, chat=False) == ("messages",)


def test_too_many_are_refused_before_each_is_looked_at():
    """Comparing takes time where all requests are answered."""
    with pytest.raises(RequestRefused, match=f"over {MOST_UNKNOWN} unknown fields"):
        unknown_fields({f"field{number}": 1 for number in range(MOST_UNKNOWN + 1)}, chat=True)


@pytest.mark.parametrize(
    ("one", "other", "off"),
    [
        ("seed", "seed", 0),
        ("sede", "seed", 1),
        ("sd", "seed", 2),
        ("abcdef", "uvwxyz", 3),
        ("a", "abcdef", 3),
    ],
)
def test_distances_are_counted_to_two(one, other, off):
    """Letters that change places count once."""
    assert distance(one, other, 2) == distance(other, one, 2) == off


@pytest.mark.parametrize("name", ["id", "x", "foo", "stopping", "n_predict", "repeat_penalty", "e" * 81])
def test_other_names_are_no_slips(name):
    """Short names are near to each other without being meant."""
    assert meant(name, {"n", "top_k_x", "stop", "seed", "temperature", "repetition_penalty"}) is None


def test_the_header_is_short_and_plain():
    """Whatever a client sends is cut, and nothing of it ends the header or its text."""
    assert warning(()) == {}
    names = ['a"b\\c\r\nSet-Cookie: x', "é" * 90, *(f"field{number}" for number in range(20))]
    (text,) = warning(names).values()
    assert text == (
        f'299 s3lora-serve "fields without effect: a?b?c??Set-Cookie??x, {"?" * 40}, field0, field1, field2,'
        ' field3, field4, field5 and 14 more"'
    )


@pytest.mark.parametrize(("path", "body"), [(CHAT, ASK), (TEXT, SAY)])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_names_what_did_nothing(served, app, path, body, stream):
    """In its Warning header, streamed and not; an answer to known fields has none."""
    call = AsgiCall(app, path, {**body, "stream": stream, "provider": {}, "store": True})
    await call
    assert (call.status, call.headers["warning"]) == (
        200,
        '299 s3lora-serve "fields without effect: provider, store"',
    )
    plain = AsgiCall(app, path, {**body, "stream": stream})
    await plain
    assert (plain.status, "warning" in plain.headers) == (200, False)


async def test_a_server_may_refuse_all_of_them(served):
    """With ``server.strict_fields``: 400 with the field's name, and no lease."""
    app = create_app(served.service, ServerConfig(strict_fields=True), None)
    call = AsgiCall(app, CHAT, {**ASK, "provider": {}})
    await call
    error = json.loads(call.text)["error"]
    assert (call.status, error["code"], error["param"]) == (400, "ignored_field", "provider")
    known = AsgiCall(app, CHAT, {**ASK, "temperature": 0, "user": "u"})
    await known
    assert known.status == 200
