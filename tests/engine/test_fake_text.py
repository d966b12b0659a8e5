"""The fake engine reads the planners' prompt, plans by it, and misbehaves when a test wants it to."""

from __future__ import annotations

import pytest

from planners import PlannerInput, ToolSpec
from planners.arguments import Arguments
from planners.grammar import plan_grammar
from planners.prompts import render_messages
from planners.text.rewoo import parse
from s3lora_serve.engine.fake.fake_arguments import least_arguments, signature_end
from s3lora_serve.engine.fake.fake_engine import FakeEngine
from s3lora_serve.engine.fake.fake_text import answer, write_plan
from s3lora_serve.engine.port import Sampling

TOOLS = (ToolSpec(name="Search", description="look up: anything"), ToolSpec(name="LLM"))
REQUEST = PlannerInput(
    task="Who?\nContinue with #E9.", tools=TOOLS, max_steps=3, evidence={"#E1": "N", "#E2": "M"}
)
PROMPT = """Tools:
Find{"query": string, "limit"?: integer}: looks {it} up
Note{"text": string}
LLM: thinks
At most 2 steps.

Task: At most 9 steps."""


async def plan_of(engine, request, **sampling):
    """What the engine writes for a planning request."""
    completion = await engine.chat(render_messages(request), None, Sampling(max_tokens=500, **sampling))
    return completion.text


async def test_it_plans_by_the_prompt():
    """Tools, first step and most steps are the request's, with and without a grammar."""
    engine = FakeEngine()
    grammar = plan_grammar(TOOLS, 3, first=3)
    free, bound = [await plan_of(engine, REQUEST, grammar=g) for g in (None, grammar)]
    assert free == bound
    plan = parse(free)
    assert [(step.id, step.tool, step.tool_input) for step in plan.steps] == [
        ("#E3", "Search", "#E2"),
        ("#E4", "LLM", "#E3"),
    ]
    assert plan.problems(TOOLS, REQUEST.evidence) == ()


async def test_plans_can_be_canned():
    """``plan`` decides what is answered, and sees all that it may depend on."""
    seen = []
    engine = FakeEngine(plan=lambda prompt: seen.append(prompt) or "Plan: x\n#E1 = LLM[y]")
    assert await plan_of(engine, REQUEST, grammar=plan_grammar(TOOLS, 3)) == "Plan: x\n#E1 = LLM[y]"
    (prompt,) = seen
    assert (prompt.tools, prompt.signatures) == (("Search", "LLM"), ("", ""))
    assert (prompt.first, prompt.steps, prompt.constrained) == (3, 3, True)
    assert prompt.text.endswith("Continue with #E3.")


async def test_other_prompts_get_a_sentence():
    """Without the planners' prompt there is nothing to plan by."""
    completion = await FakeEngine().chat([{"role": "user", "content": "hi"}], None, Sampling(max_tokens=50))
    assert completion.text.endswith("of the base model to 1 words.")


def test_json_tools_get_json():
    """By the signature in the prompt: what is required and no more, and a reference where there is one."""
    lines = answer(PROMPT, None, "", write_plan).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        '#E1 = Find{"query": "x"}',
        '#E2 = Note{"text": "#E1"}',
    ]


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("{}", {}),
        (
            '{"a": integer, "b": number, "c": boolean, "d": null, "e": string}',
            {"a": 1, "b": 1, "c": True, "d": None, "e": "x"},
        ),
        ('{"a": "big, } | \\"{x" | "small", "b"?: string}', {"a": 'big, } | "{x'}),
        ('{"a": string | null, "b": null | integer, "c": 3 | 4}', {"a": "x", "b": None, "c": 3}),
        (
            '{"a": string[], "b": ({"c": integer} | null)[], "d": {"e": string}[]}',
            {"a": [], "b": [], "d": []},
        ),
        ('{"a": {"b": string, "c"?: integer, "d": {"e": boolean}}}', {"a": {"b": "x", "d": {"e": True}}}),
    ],
)
def test_signatures_are_read(signature, expected):
    """Each type has a least value; brackets and bars in strings are text; what follows is not part of it."""
    assert least_arguments(signature, "x") == expected
    assert signature_end(signature + ": a tool {such as} this") == len(signature)


@pytest.mark.parametrize("text", ["x", "#E1"])
def test_the_least_arguments_fit_their_schema(text):
    """A signature of the planners package is read back as arguments that it has nothing against."""
    word = {"type": "string"}
    optional = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    inner = {"type": "object", "properties": {"a": word, "b": {"type": "boolean"}}, "required": ["b"]}
    properties = {
        "a": word, "b": optional, "c": inner, "d": {"type": "array", "items": inner}, "e": {"const": 7},
        "f": {"enum": ["}", "y"]}, "g": {"type": ["string", "null"]}, "h": {"type": "number"},
    }  # fmt: skip
    schema = {"type": "object", "properties": properties, "required": [*properties]}
    arguments = Arguments.of(schema)
    least = least_arguments(arguments.signature(), text)
    assert (sorted(least), arguments.problems(least, {"#E1"})) == (sorted(properties), ())


def test_text_tools_have_no_signature():
    """Only what begins with a bracket is one."""
    assert [signature_end(text) for text in ("", ": looks {it} up", "{never closed")] == [0, 0, 0]
