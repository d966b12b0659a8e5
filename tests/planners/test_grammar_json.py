"""Calls with JSON arguments under the grammar: what fits the schema, in one spelling, and nothing else."""

import json
import re

import pytest

from planners import ToolSpec, parse, plan_grammar, render
from planners.arguments.types import Number
from planners.grammar.number_rules import FRACTION_RULES, number

xgrammar = pytest.importorskip("xgrammar")

END = 256


@pytest.fixture(scope="module")
def compiler():
    """xgrammar's compiler over single bytes: what decoding can do at all, whatever the tokenizer."""
    tokens = [*(bytes([b]) for b in range(256)), b"</s>"]
    kind = xgrammar.VocabType.RAW
    return xgrammar.GrammarCompiler(
        xgrammar.TokenizerInfo(tokens, kind, vocab_size=257, stop_token_ids=[END])
    )


def accepts(grammar, text: str) -> bool:
    """Whether the whole text, and then the end, can be decoded."""
    matcher = xgrammar.GrammarMatcher(grammar)
    return matcher.accept_string(text) and matcher.accept_token(END)


JSON_TOOL = ToolSpec(
    name="find",
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 50},
            "tags": {"type": "array", "items": {"type": "string"}},
            "near": {"anyOf": [{"enum": ["home", "work"]}, {"type": "null"}]},
        },
        "required": ["query"],
    },
)


def calls(*inputs: str) -> str:
    """A plan text whose steps call the JSON tool with these arguments."""
    return "\n".join(f"Plan: p\n#E{n} = find{text}" for n, text in enumerate(inputs, start=1))


@pytest.fixture(scope="module")
def with_json(compiler):
    """The grammar of three steps over a tool that takes JSON and one that takes text."""
    return compiler.compile_grammar(plan_grammar([JSON_TOOL, "LLM"], 3, max_text=20))


@pytest.mark.parametrize(
    "text",
    [
        calls('{"query": "x"}'),
        calls('{"query": ""}'),
        calls('{"query": "[a] {b} \\"c\\" \\\\ \\n \\t/"}'),
        calls('{"query": "où, 日本 \U0001f600"}'),
        calls('{"query": "x", "limit": 50, "tags": ["a", "b"], "near": "home"}'),
        calls('{"query": "x", "tags": [], "near": null}'),
        calls('{"query": "x"}', '{"query": "see #E1, 5 #E1", "limit": "#E1", "tags": "#E1", "near": "#E1"}'),
        calls('{"query": "x"}', '{"query": "#E1", "tags": ["#E1", "x #E1"]}'),
        calls('{"query": "x"}') + "\nPlan: p\n#E2 = LLM[sum up #E1]",
    ],
)
def test_json_calls_that_can_be_written(with_json, text):
    """JSON arguments that fit the schema can be decoded, and are read back as they are written."""
    assert accepts(with_json, text)
    plan = parse(text)
    assert plan.problems([JSON_TOOL, ToolSpec(name="LLM")], max_steps=3) == ()
    assert render(plan) == text


@pytest.mark.parametrize(
    "text",
    [
        calls("[x]"),
        calls('"#E1"'),
        calls("{}"),
        calls('{"limit": 1}'),
        calls('{"limit": 1, "query": "x"}'),
        calls('{"query": "x", "query": "y"}'),
        calls('{"query": "x", "other": 1}'),
        calls('{"query":"x"}'),
        calls('{"query": "x" }'),
        calls('{"query": 1}'),
        calls('{"query": "#E1"}'),
        calls('{"query": "x"}', '{"query": "#E12"}'),
        calls('{"query": "x"}', '{"query": "#E2"}'),
        calls('{"query": "x"}', '{"query": "x", "limit": "a #E1"}'),
        calls('{"query": "#"}'),
        calls('{"query": "\n"}'),
        calls('{"query": "\\u0023E9"}'),
        calls('{"query": "\\/"}'),
        calls('{"query": "' + "x" * 21 + '"}'),
        calls('{"query": "x", "limit": 0}'),
        calls('{"query": "x", "limit": 51}'),
        calls('{"query": "x", "limit": 05}'),
        calls('{"query": "x", "limit": 1.0}'),
        calls('{"query": "x", "near": "there"}'),
        calls('{"query": "x", "tags": ["a",]}'),
        "Plan: p\n#E1 = LLM{}",
    ],
)
def test_json_calls_that_cannot_be_written(with_json, text):
    """No other property, order, type or spelling, no later reference, no text for a tool that takes JSON."""
    assert not accepts(with_json, text)


@pytest.mark.parametrize(
    ("least", "most"), [(0, 0), (-3, 12), (7, 7), (95, 1103), (-1103, -95), (-20, -3), (0, 1000), (199, 801)]
)
def test_whole_numbers_between_bounds(compiler, least, most):
    """Exactly the whole numbers from the lowest to the highest can be written, each in one way."""
    rule = "root ::= " + number(Number(whole=True, least=least, most=most))
    compiled = compiler.compile_grammar(rule)
    tried = range(least - 120, most + 120)
    assert [n for n in tried if accepts(compiled, str(n))] == [n for n in tried if least <= n <= most]
    assert not any(accepts(compiled, text) for text in ("", "-", "-0", "00", "+1", "01", f"0{most}"))


@pytest.mark.parametrize(("least", "most"), [(0, 1), (-2, 3), (None, 0), (9, None), (None, None), (-7, -5)])
@pytest.mark.parametrize("strict", [False, True])
def test_numbers_between_bounds(compiler, least, most, strict):
    """What can be written lies between the bounds, and is what Python writes for that number."""
    kind = Number(False, least, most, above=strict and least is not None, below=strict and most is not None)
    compiled = compiler.compile_grammar("\n".join([f"root ::= {number(kind)}", *FRACTION_RULES]))
    values = [
        round(n + part, 6)
        for n in range(-10, 12)
        for part in (0, 0.0, 0.5, -0.5, 0.001, 0.0625, -0.999999, 1e-05)
    ]
    for value in values:
        fits = not list(kind.problems(value, "$", ()))
        assert accepts(compiled, json.dumps(value)) == (fits and "e" not in repr(value)), value
    for text in ("0.00001", "1.50", "1.", ".5", "-0", "1e3", "01.5", "1.0000"):
        assert not accepts(compiled, text)


def test_texts_are_shared_by_steps_and_tool_sets():
    """What costs time to compile is word for word the same for other tools, steps and shorter texts."""

    def chain(grammar: str, name: str) -> list[str]:
        return [rule for rule in grammar.splitlines() if re.match(rf"{name}\d+ ::=", rule)]

    small, large = plan_grammar(["A"], 1, max_text=40), plan_grammar(["B", JSON_TOOL], 9, first=3)
    assert chain(small, "t") == chain(large, "t")[:39]
    assert chain(plan_grammar([JSON_TOOL], 2, max_text=40), "j") == chain(large, "j")[:40]


def test_tools_with_equal_parameters_share_rules():
    """Ten tools that take the same cost hardly more than one, whatever their parameters are described as."""
    parameters = JSON_TOOL.parameters
    alike = [ToolSpec(name=f"f{n}", parameters={**parameters, "title": str(n)}) for n in range(10)]
    assert len(plan_grammar(alike, 8)) < len(plan_grammar(alike[:1], 8)) + 100


def test_one_name_for_two_tools():
    """Equal tools count once; a name with different parameters is refused, since a plan could not tell."""
    assert plan_grammar([JSON_TOOL, JSON_TOOL], 2) == plan_grammar([JSON_TOOL], 2)
    with pytest.raises(ValueError, match="'find' is offered with different parameters"):
        plan_grammar([JSON_TOOL, "find"], 2)


def test_too_much_for_one_grammar():
    """Parameters that would take long to compile are refused with the figures and a way out."""
    shared = {f"p{n}": {"type": "integer", "minimum": n} for n in range(31)}
    tools = [
        ToolSpec(
            name=f"T{n}", parameters={"type": "object", "properties": {f"q{n}": {"type": "null"}, **shared}}
        )
        for n in range(31)
    ]
    assert plan_grammar(tools, 3)
    with pytest.raises(ValueError, match="over the limit of 8192; offer fewer tools with parameters, or ask"):
        plan_grammar(tools, 16)
