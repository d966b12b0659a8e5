"""Calls with JSON arguments under the grammar: what fits the schema, in one spelling, and nothing else."""

import json
import random
import re

import grammar_walk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planners import ToolSpec, parse, plan_grammar, render
from planners.arguments.types import Number
from planners.grammar.argument_lengths import argument_chars
from planners.grammar.number_rules import FRACTION_RULES, most_digits, number
from planners.step import MAX_STEP_CHARS

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


def nested(depth: int, **more) -> ToolSpec:
    """A tool that takes one text in ``depth`` lists inside each other."""
    schema: dict = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema, **more}
    return ToolSpec(name="t", parameters={"type": "object", "properties": {"a": schema}})


def longest(text: str, depth: int, items: int = 8) -> str:
    """The arguments of ``nested(depth)`` whose lists are full of ``text``."""
    value: object = text
    for _ in range(depth):
        value = [value] * items
    return json.dumps({"a": value}, ensure_ascii=False)


@pytest.mark.parametrize("max_text", [2, 5, 6, 13, 24])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_longest_call_is_as_long_as_the_figure(compiler, max_text, depth):
    """Full of escapes and references it can be decoded, is exactly so long, and is read back."""
    tool, parts = nested(depth), min(6, max_text)
    unit = '"' * (max_text // parts)
    text = f"Plan: p\n#E12 = t{longest('#E11' + (unit + '#E11') * parts, depth)}"
    grammar = compiler.compile_grammar(plan_grammar([tool], 1, first=12, max_text=max_text))
    assert accepts(grammar, text)
    call = parse(text).steps[0].tool_input
    assert len(call) == argument_chars(tool.arguments.fields, max_text)
    written = json.dumps(unit)[1:-1]
    assert not accepts(grammar, text.replace(f"#E11{written}", f"#E11{written}x", 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20))
def test_no_call_is_longer_than_the_figure(seed, first):
    """Whatever a tool takes: random decoding, and random calls that fit it, stay within its figure."""
    rng = random.Random(seed)
    tools = [tool for tool in grammar_walk.random_tools(rng) if tool.arguments]
    if tools:
        plan = grammar_walk.random_plan(rng, tools, 3, first)
        most = {t.name: argument_chars(t.arguments.fields, grammar_walk.MAX_TEXT) for t in tools}
        assert [step for step in plan.steps if len(step.tool_input) > most[step.tool]] == []


@pytest.mark.parametrize("bounds", [(0, 1), (-2, 3), (None, 0), (9, None), (None, None), (-(10**12), -5)])
def test_no_number_is_longer_than_its_figure(compiler, bounds):
    """One more digit than the figure cannot be decoded, with a fraction or without."""
    for whole in (True, False):
        kind = Number(whole, *bounds)
        compiled = compiler.compile_grammar("\n".join([f"root ::= {number(kind)}", *FRACTION_RULES]))
        matcher = xgrammar.GrammarMatcher(compiled)
        ends = [
            "-0.000123456",
            "-999999999.123456",
            "999999999999999.0",
            "-999999999999999.0",
            "-2",
            "-1.234567",
        ]
        ends += [f"-{'9' * n}{end}" for n in range(1, 17) for end in ("", ".0", ".123456", ".1234567")]
        for text in (*ends, *(end.removeprefix("-") for end in ends)):
            matcher.reset()
            if matcher.accept_string(text) and matcher.is_completed():
                assert len(text) <= most_digits(kind), (text, kind)


def test_arguments_at_the_limit_are_read():
    """The longest call that is not refused is a plan that can be read, though it is near the limit."""
    most = max(n for n in range(16, 1_001) if argument_chars(nested(2).arguments.fields, n) <= MAX_STEP_CHARS)
    assert plan_grammar([nested(2)], 8, max_text=most)
    units = "\\" * (most // 6)
    text = f"Plan: {'p' * most}\n#E64 = {'t' * 64}{longest('#E63' + (units + '#E63') * 6, 2)}"
    assert MAX_STEP_CHARS - 1_000 < len(parse(text).steps[0].tool_input) <= MAX_STEP_CHARS


@pytest.mark.parametrize(("depth", "max_text", "items"), [(3, 240, 5), (2, 1_000, 3)])
def test_arguments_that_no_reader_would_take_are_refused(depth, max_text, items):
    """Before anything is decoded, with the tool, its length, the limit, and what helps."""
    told = rf"tool 't' may be \d+ characters .* limit of {MAX_STEP_CHARS}; give its lists a smaller maxItems"
    with pytest.raises(ValueError, match=told):
        plan_grammar([nested(depth), "LLM"], 2, max_text=max_text)
    assert plan_grammar([nested(depth, maxItems=items - 2), "LLM"], 2, max_text=max_text)
    assert plan_grammar([nested(depth), "LLM"], 2, max_text=16)
