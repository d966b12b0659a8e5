"""Calls that are forced over the real engine: their arguments fit, whatever the model would say."""

from __future__ import annotations

import json

import pytest
from blanks import no_blanks
from real_fleet import QUESTION, served_by

pytestmark = pytest.mark.engine

CHAT = "/v1/chat/completions"
# One object fits it, so that the outcome hangs on the constraint alone.
ONE = {"who": "Lana", "born": [1965, True]}
FITS = {
    "type": "object",
    "properties": {"who": {"const": "Lana"}, "born": {"const": [1965, True]}},
    "required": ["who", "born"],
    "additionalProperties": False,
}
NAMED = {"type": "function", "function": {"name": "note"}}
served = served_by("p")


def asked(demo_base, choice, **said):
    """A chat that may call ``note``, of which ``said`` tells more."""
    return {
        "model": "p",
        **QUESTION,
        "max_tokens": 80,
        "logit_bias": no_blanks(demo_base),
        "tools": [{"type": "function", "function": {"name": "note", **said}}],
        "tool_choice": choice,
        "parallel_tool_calls": False,
    }


def calls_in(answer, *, stream):
    """(name, arguments as text) of each call in the answer, put together from its chunks."""
    if not stream:
        calls = answer.json()["choices"][0]["message"]["tool_calls"]
        return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    whole = {}
    for line in answer.text.splitlines():
        if not line.startswith("data: {"):
            continue
        for choice in json.loads(line[6:])["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                name, arguments = whole.get(call["index"], ("", ""))
                said = call["function"]
                whole[call["index"]] = (
                    name + (said.get("name") or ""),
                    arguments + (said.get("arguments") or ""),
                )
    return list(whole.values())


@pytest.mark.parametrize(
    ("choice", "said", "stream"),
    [("required", {}, False), (NAMED, {}, True), ("required", {"strict": False}, True)],
    ids=["required", "named", "not strict"],
)
async def test_a_forced_call_fits_its_schema(served, demo_base, choice, said, stream):
    """Also where the client says nothing of ``strict``, or that it is not: vLLM alone leaves it free."""
    body = asked(demo_base, choice, parameters=FITS, **said)
    answer = await served.http.post(CHAT, json={**body, "stream": stream})
    assert answer.status_code == 200, answer.text
    ((name, arguments),) = calls_in(answer, stream=stream)
    assert (name, json.loads(arguments)) == ("note", ONE)


async def test_a_function_without_parameters_is_called_with_an_empty_object(served, demo_base):
    """And not with any JSON that comes to the model's mind."""
    answer = await served.http.post(CHAT, json=asked(demo_base, "required"))
    assert answer.status_code == 200, answer.text
    assert [json.loads(arguments) for _, arguments in calls_in(answer, stream=False)] == [{}]


async def test_a_schema_that_no_grammar_can_hold_is_refused(served, demo_base):
    """400 with the reason, rather than a call that might not fit; what serves goes on."""
    broken = {"type": "object", "properties": {"a": {"$ref": "#/$defs/nowhere"}}, "required": ["a"]}
    answer = await served.http.post(CHAT, json=asked(demo_base, "required", parameters=broken))
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), answer.text
    again = await served.http.post(CHAT, json=asked(demo_base, NAMED, parameters=FITS))
    assert again.status_code == 200
