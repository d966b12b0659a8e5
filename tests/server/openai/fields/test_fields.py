"""Bodies that are wrong are refused with the way out."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from planners import PlanRequest
from s3lora_serve.server.openai.fields.chat_fields import IGNORED, check_count, check_fields
from s3lora_serve.server.validation import RequestRefused, describe

GOOD = {"planner": "p", "task": "t", "tools": [{"name": "Search"}]}


def problem(**changes):
    """What is said of a good plan request with these changes; a value of None takes the field out."""
    body = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(ValidationError) as refused:
        PlanRequest.model_validate(body)
    return describe(refused.value.errors())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tols": 1}, ("unknown field 'tols'; did you mean 'tools'?", "tols")),
        (
            {"zzz": 1},
            (
                "unknown field 'zzz'; known: constraint, evidence, feedback, max_steps, max_text, planner,"
                " repair, revision, seed, stream, task, temperature, tools",
                "zzz",
            ),
        ),
        (
            {"tools": [{"name": "Search", "descripton": ""}]},
            ("unknown field 'descripton'; did you mean 'description'?", "tools[0].descripton"),
        ),
        ({"task": None}, ("field 'task' is required", "task")),
        ({"max_steps": 99}, ("max_steps: Input should be less than or equal to 32, not 99", "max_steps")),
        (
            {"temperature": float("nan")},
            ("temperature: Input should be less than or equal to 2, not nan", "temperature"),
        ),
        ({"seed": -1}, ("seed: Input should be greater than or equal to 0, not -1", "seed")),
        ({"tools": 7}, ("tools: should be a list, not 7", "tools")),
        ({"task": {"a": 1}}, ("task: Input should be a valid string, not an object of 1 entries", "task")),
        ({"task": "x\ud800"}, None),
    ],
)
def test_a_problem_names_field_value_and_limit(changes, expected):
    """Each message says which field, what it was and what it may be; unknown fields name the nearest."""
    message, param = problem(**changes)
    if expected is None:
        assert param == "task"
    else:
        assert (message, param) == expected


def test_little_of_what_was_sent_comes_back():
    """A body with thousands of faults gets a short answer (vLLM's grew to 5,000 times the request)."""
    message, _ = problem(tools=[{"name": "x" * 10_000, "y" * 10_000: 1} for _ in range(1000)])
    assert len(message) < 2_000


@pytest.mark.parametrize("name", sorted(IGNORED))
def test_fields_that_vllm_would_ignore_are_refused(name):
    """A client that counts on such a field learns that it has no effect, and what to use."""
    with pytest.raises(RequestRefused) as refused:
        check_fields({"model": "p", name: {}})
    error = refused.value
    assert (str(error), error.status, error.reason, error.param) == (
        f"field {name!r} would have no effect; {IGNORED[name]}",
        400,
        "ignored_field",
        name,
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("reponse_format", "response_format"),
        ("responseformat", "response_format"),
        ("structured_output", "structured_outputs"),
        ("toolchoice", "tool_choice"),
        ("s3_lora", "s3lora"),
        ("S3LoRA", "s3lora"),
    ],
)
def test_a_slip_in_a_promise_is_refused(name, meant):
    """vLLM ignores unknown fields, so a mistyped constraint would be lost without a sign."""
    with pytest.raises(RequestRefused) as refused:
        check_fields({name: {}})
    assert refused.value.hint == f"did you mean {meant!r}?"


@pytest.mark.parametrize(
    "name",
    [
        "response_format",
        "structured_outputs",
        "tool_choice",
        "tools",
        "stop",
        "messages",
        "logit_bias",
        "n",
        "user",
        "",
    ],
)
def test_fields_in_use_pass(name):
    """OpenAI's and vLLM's own fields are not in the way."""
    assert check_fields({name: {}}) is None


@pytest.mark.parametrize("n", [9, 9.0, "9", 10**400, "1e9", float("inf")])
def test_too_many_answers_are_refused(n):
    """However the number is written, as the engine would read it; the setting is named."""
    with pytest.raises(RequestRefused) as refused:
        check_count({"n": n}, 8)
    error = refused.value
    assert (error.status, error.reason, error.param) == (422, "over_limit", "n")
    assert ("server.max_n" in str(error), len(str(error)) < 200) == (True, True)


@pytest.mark.parametrize("n", [None, 8, "8", 0, -1, True, "many", [9], float("nan")])
def test_other_counts_are_the_engines_to_judge(n):
    """Within the limit, or no number at all."""
    assert check_count({"n": n}, 8) is None
