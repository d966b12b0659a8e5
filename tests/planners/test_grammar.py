"""Every sentence of the grammar is a valid plan, checked with the engine that vLLM decodes with."""

import random

import pytest
from hypothesis import given, settings
from plan_strategies import TOOLS, valid_plans

from planners import PlanSyntaxError, ToolSpec, parse, plan_grammar, render
from planners.grammar.text_rules import TEXT

xgrammar = pytest.importorskip("xgrammar")

# A vocabulary of single bytes: what decoding can do at all, whatever the tokenizer.
VOCABULARY = [bytes([b]) for b in range(256)] + [b"</s>"]
END = 256


@pytest.fixture(scope="module")
def compiler():
    """xgrammar's compiler over single bytes."""
    kind = xgrammar.VocabType.RAW
    return xgrammar.GrammarCompiler(
        xgrammar.TokenizerInfo(VOCABULARY, kind, vocab_size=257, stop_token_ids=[END])
    )


@pytest.fixture(scope="module")
def five_steps(compiler):
    """The grammar of up to five steps over TOOLS, texts of at most twelve characters."""
    return compiler.compile_grammar(plan_grammar(TOOLS, 5, max_text=12))


def accepts(grammar, text: str) -> bool:
    """Whether the whole text, and then the end, can be decoded."""
    matcher = xgrammar.GrammarMatcher(grammar)
    return matcher.accept_string(text) and matcher.accept_token(END)


def lines(*inputs: str, tool: str = "LLM") -> str:
    """A plan text with these inputs, numbered from #E1."""
    return "\n".join(f"Plan: p\n#E{n} = {tool}[{text}]" for n, text in enumerate(inputs, start=1))


@pytest.mark.parametrize(
    "text",
    [
        lines("x"),
        lines("x", "#E1", "#E1 and #E2", "y #E3", "z"),
        lines("x", "#E1, #E1"),
        lines("48 / 2", "(#E1) * 3"),
        lines("où, Zürich?", "日本 #E1"),
        lines("x", tool="do_math"),
    ],
)
def test_plans_that_can_be_written(five_steps, text):
    """Sound plans can be decoded."""
    assert accepts(five_steps, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        lines("x") + "\n",
        lines("x", tool="Google"),
        lines("x", tool="Searchx"),
        lines("#E1"),
        lines("x", "#E2"),
        lines("x", "#E10"),
        lines("x", "#E1#E10"),
        lines("x", "#E3", "y"),
        lines("x", "#"),
        lines(""),
        lines(" "),
        lines("\u00a0"),
        lines("a]b"),
        lines("a\nb"),
        lines("a\rb"),
        lines("a\u2028b"),
        lines("a\x00b"),
        lines("abcdefghijklm"),
        lines("x", "x", "x", "x", "x", "x"),
        "Plan: p\n#E2 = LLM[x]",
        "Plan: p",
        "Plan: \n#E1 = LLM[x]",
        "plan: p\n#E1 = LLM[x]",
    ],
)
def test_texts_that_cannot_be_written(five_steps, text):
    """No other tool, no later, own or unknown reference, no blank, long or broken text, no sixth step."""
    assert not accepts(five_steps, text)


@settings(deadline=None)
@given(valid_plans(max_steps=5))
def test_grammar_covers_valid_plans(compiler, plan):
    """Any valid plan within the bounds can be decoded, unless a text begins with an invisible mark."""
    grammar = compiler.compile_grammar(plan_grammar(TOOLS, 5))
    texts = [text for s in plan.steps for text in (s.thought, s.tool_input)]
    if any("\u200b" <= text[0] <= "\u206f" or text[0] == "\ufeff" for text in texts):
        return
    assert accepts(grammar, render(plan))


def _random_sentence(grammar, rng: random.Random) -> str:
    matcher = xgrammar.GrammarMatcher(grammar)
    mask = xgrammar.allocate_token_bitmask(1, 257)
    out = bytearray()
    while True:
        matcher.fill_next_token_bitmask(mask)
        words = [int(word) & 0xFFFFFFFF for word in mask[0]]
        allowed = [t for t in range(257) if words[t // 32] >> (t % 32) & 1]
        # Mostly what plans are made of, so that references, steps and ends come up; else anything allowed.
        usual = [t for t in allowed if t == END or chr(t) in "#E123456789]\n x"]
        token = rng.choice(usual if usual and rng.random() < 0.8 else allowed)
        assert matcher.accept_token(token)
        if token == END:
            return out.decode()
        out.append(token)


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_decoded_is_a_valid_plan(five_steps, seed):
    """Random decoding under the grammar always ends in a text that parses to a plan without problems."""
    text = _random_sentence(five_steps, random.Random(seed))
    plan = parse(text)
    assert plan.problems(TOOLS) == ()
    assert parse(render(plan)) == plan


def test_the_fuzz_reaches_references(five_steps):
    """The fuzz above is no tautology: its sentences use several steps and references."""
    plans = [parse(_random_sentence(five_steps, random.Random(seed))) for seed in range(60)]
    assert max(len(plan.steps) for plan in plans) == 5
    assert any(step.depends_on for plan in plans for step in plan.steps)


def test_two_digit_steps(compiler):
    """Step 12 may refer to #E1 and #E11, never to #E12 or #E13."""
    grammar = compiler.compile_grammar(plan_grammar(TOOLS, 12, max_text=12))
    eleven = ["x"] * 11
    assert accepts(grammar, lines(*eleven, "#E11 #E1"))
    assert not accepts(grammar, lines(*eleven, "#E12"))
    assert not accepts(grammar, lines(*eleven, "#E13"))


def test_continuation(compiler):
    """With two results known the plan starts at #E3 and may use both from its first step on."""
    grammar = compiler.compile_grammar(plan_grammar(TOOLS, 2, first=3))
    assert accepts(grammar, "Plan: p\n#E3 = LLM[#E1 #E2]\nPlan: p\n#E4 = LLM[#E3]")
    assert not accepts(grammar, "Plan: p\n#E1 = LLM[x]")
    assert not accepts(grammar, "Plan: p\n#E3 = LLM[#E3]")


def test_characters_of_all_scripts(compiler):
    """At every edge between scripts and UTF-8 lengths, exactly what may stand in a text can be written."""
    edges = [
        n * 64 + k for n in range(0x110000 // 64) for k in (0, 1, 63) if n < 0x420 or n % 61 == 0 or n > 0x35C
    ]
    edges += [0xAC00, 0xD55C, 0xD7A3, 0xD7FF, 0xE000, 0x2027, 0x2028, 0x2029, 0x202A, 0xFEFF, 0x10FFFF]
    compiled = compiler.compile_grammar(f"root ::= {TEXT.char}")
    for code in edges[::7] + edges[-11:]:
        char = chr(code)
        if 0xD800 <= code <= 0xDFFF:
            continue  # half of a pair is no text that could be tried
        barred = char in "[]#\u2028\u2029" or code < 0x20 or 0x7F <= code < 0xA0
        assert accepts(compiled, char) != barred, hex(code)


def test_text_is_bounded_with_references(compiler):
    """References do not make room for more characters than a text without them may have."""
    grammar = compiler.compile_grammar(plan_grammar(["A"], 2, max_text=24))
    for count in range(8):
        filled = "#E1".join(["x" * 24] * (count + 1))
        assert accepts(grammar, lines("x", filled, tool="A")) == (count == 0)
    assert accepts(grammar, lines("x", "#E1".join(["xxxx"] * 6), tool="A"))
    assert accepts(grammar, lines("x", "#E1" * 7, tool="A"))


def test_equal_tool_sets_share_a_grammar():
    """Order, repetition and descriptions change nothing: one set of names is compiled once."""
    given = [ToolSpec(name="B", description="b"), "A", "B"]
    assert plan_grammar(given, 4) == plan_grammar(["A", "B"], 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tools": []}, "0 tools: offer 1 to 256"),
        ({"tools": [f"T{n}" for n in range(257)]}, "257 tools: offer 1 to 256"),
        ({"tools": ['a" | "b']}, "tool name 'a\" | \"b'"),
        ({"max_steps": 0}, "max_steps 0: use 1 to 32"),
        ({"max_steps": 33}, "max_steps 33: use 1 to 32"),
        ({"first": 34}, "first 34: use 1 to 33"),
        ({"max_text": 1}, "max_text 1: use at least 2"),
    ],
)
def test_impossible_grammars(arguments, message):
    """What cannot be a grammar is refused with the value and the limits; names cannot inject rules."""
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        plan_grammar(**{"tools": ["A"], "max_steps": 3, **arguments})


def test_largest_grammar_compiles(compiler):
    """The limits of a request are within what xgrammar compiles."""
    compiler.compile_grammar(plan_grammar([f"Tool{n}" for n in range(64)], 32))


def test_cut_text_is_no_plan(five_steps):
    """Only the end token makes a plan: a text cut short by a token limit is refused by the parser."""
    with pytest.raises(PlanSyntaxError):
        parse(lines("x", "#E1")[:-2])


def test_there_is_no_negated_class():
    """vLLM 0.26 brings xgrammar 0.2.3, which cannot compile a negated class that reaches beyond ASCII."""
    grammar = plan_grammar(["Search"], 3)
    assert "[^" not in grammar
    assert r"\U0010ffff" in grammar, "text beyond ASCII is still allowed"


@pytest.mark.parametrize(
    "written",
    [
        "Plan: quickly",
        "Plan: " + "a" * 130,
        "Plan: x\n#E1 = A[hello",
        "Plan: x\n#E1 = A[y]\nPlan: z\n#E2 = A[#E1 b",
    ],
)
def test_no_token_is_offered_that_would_be_refused(written: str):
    """What may be sampled is accepted; long repetitions made xgrammar offer forbidden tokens."""
    letters = [chr(code) for code in range(32, 127)]
    tokens = ["</s>", *letters, "\n", " a", " #", " ]", "a]", "([", "x[", "#E", "Plan"]
    compiler = xgrammar.GrammarCompiler(
        xgrammar.TokenizerInfo(tokens, xgrammar.VocabType.RAW, stop_token_ids=[0])
    )
    compiled = compiler.compile_grammar(plan_grammar(["A", "B"], 2))

    def matcher() -> xgrammar.GrammarMatcher:
        begun = xgrammar.GrammarMatcher(compiled)
        assert begun.accept_string(written)
        return begun

    mask = xgrammar.allocate_token_bitmask(1, len(tokens))
    matcher().fill_next_token_bitmask(mask)
    offered = [i for i in range(len(tokens)) if int(mask[0, i // 32]) >> (i % 32) & 1]
    assert offered, "some token may follow"
    assert [tokens[i] for i in offered if not matcher().accept_token(i)] == []
