"""What cannot be asked together with a plan, and what is wrong in ``s3lora``, is refused with its path."""

from __future__ import annotations

import pytest
from plan_asks import ASK, TOOLS, answered
from request_kinds import held

CONFLICTS = {
    "response_format": {"type": "json_object"},
    "structured_outputs": {"regex": "x"},
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "required",
    "stop": ["\n"],
    "n": 2,
    "logit_bias": {"1": 1},
    "min_tokens": 5,
    "ignore_eos": True,
    "bad_words": ["x"],
    "stop_token_ids": [1],
    "skip_special_tokens": False,
    "echo": True,
    "chat_template": "{{ 1 }}",
    "use_beam_search": True,
}


@pytest.mark.parametrize("name", sorted(CONFLICTS))
async def test_fields_that_fight_the_grammar_are_refused(served, app, name):
    """Each would lose the guarantee or change the prompt; the answer says what to use, and holds nothing."""
    status, answer = await answered(app, {**ASK, name: CONFLICTS[name]})
    error = answer["error"]
    assert (status, error["code"], error["param"]) == (400, "plan_conflict", name)
    assert len(error["message"].partition("; ")[2]) > 20
    assert held(served) == (0, 0)


async def test_what_stock_clients_send_for_nothing_passes(served, app):
    """Nulls and defaults of such fields ask for nothing."""
    neutral = dict.fromkeys(CONFLICTS) | {
        "n": 1,
        "stop": [],
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "logit_bias": {},
        "logprobs": False,
        "parallel_tool_calls": True,
        "stream": False,
        "metadata": {"a": "b"},
        "top_p": 1,
        "user": "u",
    }
    status, answer = await answered(app, {**ASK, **neutral})
    assert (status, "plan" in answer["s3lora"]) == (200, True), answer


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "x",
        [{"role": "system", "content": "x"}],
        [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}],
        [{"role": "user"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}],
        [{"role": "user", "content": [{"type": "text", "text": 7}]}],
        ["x"],
    ],
)
async def test_a_plan_takes_one_user_message(served, app, messages):
    """The prompt is the planner's own, so that anything else would be lost."""
    status, answer = await answered(app, {**ASK, "messages": messages})
    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "plan_conflict", "messages")


WRONG = [
    ({"plann": {}}, 400, "ignored_field", "s3lora.plann", "did you mean 'plan'?"),
    ({"plan": {"tols": []}}, 400, "ignored_field", "s3lora.plan.tols", "did you mean 'tools'?"),
    (
        {"plan": {"tools": [{"name": "A"}, {"nme": "B"}]}},
        400,
        "ignored_field",
        "s3lora.plan.tools[1].name",
        "did you mean 'name'?",
    ),
    (
        {"plan": {"tools": [{"name": "A"}, {"name": "web search"}]}},
        400,
        "invalid_request",
        "s3lora.plan.tools[1].name",
        "such as 'web_search'",
    ),
    (
        {"plan": {"tools": [{"name": "A"}] * 2}},
        400,
        "invalid_request",
        "s3lora.plan.tools",
        "offered 2 times",
    ),
    (
        {"plan": {"tools": TOOLS, "max_steps": 99}},
        400,
        "invalid_request",
        "s3lora.plan.max_steps",
        "less than or equal to 32",
    ),
    (
        {"plan": {"tools": TOOLS, "evidence": {"#E2": "x"}}},
        400,
        "invalid_request",
        "s3lora.plan.evidence",
        "without a gap",
    ),
    (
        {"plan": {"tools": [{"name": f"T{n}"} for n in range(65)]}},
        400,
        "over_limit",
        "s3lora.plan.tools",
        "plans.max_tools",
    ),
    (
        {"plan": {"tools": TOOLS, "max_text": 999}},
        400,
        "over_limit",
        "s3lora.plan.max_text",
        "plans.max_text",
    ),
    ({"revision": "xyz"}, 400, "invalid_request", "s3lora.revision", "pattern"),
    ({"revision": "f" * 12}, 409, "revision_mismatch", None, "000000000000"),
    (7, 400, "invalid_request", "s3lora", "an object"),
]


@pytest.mark.parametrize(("extras", "status", "code", "param", "said"), WRONG)
async def test_what_is_wrong_in_our_field_is_said_with_its_path(
    served, app, extras, status, code, param, said
):
    """400 for what would do nothing and for values, 409 for another revision."""
    answer = await answered(app, {**ASK, "s3lora": extras})
    error = answer[1]["error"]
    assert (answer[0], error["code"], error["param"]) == (status, code, param)
    assert said in error["message"]
    assert held(served) == (0, 0)


async def test_an_empty_task_is_refused_where_it_stands(served, app):
    """The task is the message's text, so that is what the error names."""
    status, answer = await answered(app, {**ASK, "messages": [{"role": "user", "content": "  "}]})
    assert (status, answer["error"]["param"]) == (400, "messages[0].content")
