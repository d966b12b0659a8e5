"""Constraints that would keep the engine busy are refused before they reach it; ordinary ones pass."""

from __future__ import annotations

import contextlib
import time

import pytest

from planners import ToolSpec, plan_grammar
from s3lora_serve.server.openai.constraints import check_constraints
from s3lora_serve.server.validation import RequestRefused


def schema(**node):
    """A response_format with this schema."""
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": node}}}


def outputs(**kind):
    """A body with this constraint."""
    return {"structured_outputs": kind}


ARRAYS = {"type": "array", "maxItems": 1000, "items": {"type": "array", "maxItems": 1000}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            outputs(regex="(((a{1,1000}){1,1000}){1,1000})"),
            "structured_outputs.regex: a part may repeat 1000000000 times, over the limit of 10000",
        ),
        (outputs(regex="(a{101}b){100}"), "structured_outputs.regex: a part may repeat 10100 times"),
        (outputs(regex="a{20000,}"), "structured_outputs.regex: a part may repeat 20000 times"),
        (outputs(regex="((a{999}){999}"), "structured_outputs.regex: a part may repeat 998001 times"),
        (outputs(regex="(a|b)*" * 65), "structured_outputs.regex: 65 repetitions are over the limit of 64"),
        (outputs(regex="a" * 2001), "structured_outputs.regex: 2001 characters are over the limit of 2000"),
        (
            outputs(grammar='root ::= ("a"{1,999}){1,999}'),
            "structured_outputs.grammar: a part may repeat",
        ),
        (outputs(grammar="x" * 32001), "structured_outputs.grammar: 32001 characters are over"),
        (outputs(grammar="root ::= root"), "structured_outputs.grammar: no text can satisfy it"),
        (outputs(grammar='root ::= "a" b\nb ::= (root | b) "c"+'), "structured_outputs.grammar: no text can"),
        (outputs(json=ARRAYS), "structured_outputs.json: a part may repeat 1000000 times"),
        (outputs(json='{"maxLength": 20000}'), "structured_outputs.json: a part may repeat 20000 times"),
        (schema(**ARRAYS), "response_format: a part may repeat 1000000 times"),
        (schema(type="string", pattern="(a{200}){200}"), "response_format: pattern: a part may repeat 40000"),
        (
            {"tool_choice": "required", "tools": [{"function": ARRAYS}]},
            "tools: a part may repeat 1000000 times",
        ),
        (
            {"tools": [{"function": {"strict": True, "parameters": ARRAYS}}]},
            "tools: a part may repeat 1000000 times",
        ),
    ],
)
def test_a_constraint_over_a_bound_is_refused(body, message):
    """The message names the field, what it holds and the limit."""
    with pytest.raises(RequestRefused) as refused:
        check_constraints(body)
    error = refused.value
    assert (str(error)[: len(message)], error.status, error.reason) == (
        message,
        400,
        "constraint_too_complex",
    )


@pytest.mark.parametrize(
    "body",
    [
        {},
        outputs(regex=r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2})?"),
        outputs(regex=r"[({]{1,9}\({1,900}[^]\\]{2,1000}" + "a{1,1000}b{1,1000}"),
        outputs(regex=7, json=None, grammar=["x"]),
        outputs(grammar='root ::= "{1,99999}" | "a" root'),
        outputs(grammar='root ::= a? b{0,3} ("x" | root)*\na ::= a\nb ::= b # root'),
        outputs(grammar="start: NAME\nNAME: /a/"),
        outputs(grammar=plan_grammar((ToolSpec(name="Search"), ToolSpec(name="LLM")), 32)),
        outputs(choice=["a", "b"]),
        {"tools": [{"function": ARRAYS}]},  # only described to the model
        schema(type="object", properties={"maxItems": {"type": "integer", "maxItems": True}}),
        schema(type="array", maxItems=100, items={"type": "string", "maxLength": 100}),
    ],
)
def test_ordinary_constraints_pass(body):
    """Also malformed ones, which the engine refuses with its own reason."""
    assert check_constraints(body) is None


@pytest.mark.parametrize("text", ["[", "(", "{ ", '"\\', "\n", "(a|b)*", "a ::= b\n", "[\\", "{1,", '("a"? '])
def test_the_check_itself_is_quick(text):
    """It runs where all requests are answered: no text of the longest size keeps it busy."""
    start = time.thread_time()  # what others do meanwhile is not counted
    for kind, size in (("regex", 2_000), ("grammar", 32_000)):
        body = outputs(**{kind: ("root ::= " + text * size)[:size]})
        with contextlib.suppress(RequestRefused):
            check_constraints(body)
    assert time.thread_time() - start < 1


async def test_a_refusal_is_a_400(http):
    """Over HTTP: OpenAI's shape, the parameter named."""
    body = {"model": "p", "messages": [{"role": "user", "content": "x"}], **outputs(grammar="root ::= root")}
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = await http.post(path, json=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (
            400,
            "constraint_too_complex",
            "structured_outputs.grammar",
        )
