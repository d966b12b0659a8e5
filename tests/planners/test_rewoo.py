"""Plans as ReWOO text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_strategies import any_plans, json_plans, valid_plans

from planners import PlanSyntaxError, parse, render

TWO = """Plan: Find the director.
#E1 = Search[director of Heat]
Plan: Find his birthplace.
#E2 = Search[#E1 born]"""
# Executors look for tools as words, and take everything up to the first "]" for the input.
STEP = re.compile(r"^(?P<id>#E[0-9]+) = (?P<tool>\w+)\[(?P<input>[^\]]+)", re.M)


def test_text_of_a_plan():
    """A plan reads and writes as two lines a step."""
    plan = parse(TWO)
    assert [(s.id, s.thought, s.tool, s.tool_input, s.depends_on) for s in plan.steps] == [
        ("#E1", "Find the director.", "Search", "director of Heat", ()),
        ("#E2", "Find his birthplace.", "Search", "#E1 born", ("#E1",)),
    ]
    assert plan.to_rewoo() == TWO


def test_blank_lines_and_margins_do_not_matter():
    """What models add around lines changes nothing."""
    assert parse("\n" + TWO.replace("\n", " \r\n\n  ") + "\n\n") == parse(TWO)


@given(any_plans().filter(lambda plan: plan.steps))
def test_round_trip(plan):
    """parse(render(plan)) gives the plan back, whatever its texts, ids beyond #E9 and defects."""
    assert parse(render(plan)) == plan


@given(json_plans())
def test_round_trip_of_json_arguments(plan):
    """Arguments come back value for value: nested, with brackets, quotes, line breaks and any script."""
    text = render(plan)
    assert parse(text) == plan
    assert len(text.split("\n")) == len(text.splitlines()) == 2 * len(plan.steps)


def test_text_of_json_arguments():
    """A tool's JSON stands in braces where text stands in brackets."""
    step = parse('Plan: p\n#E2 = Lookup{"who": "#E1", "facts": ["born [when]", "a\\nb"], "n": 1.0}').steps[0]
    assert step.arguments == {"who": "#E1", "facts": ["born [when]", "a\nb"], "n": 1.0}
    assert step.tool_input == r'{"who": "#E1", "facts": ["born [when]", "a\nb"], "n": 1.0}'
    assert step.depends_on == ("#E1",)


def test_braces_in_brackets_are_text():
    """What stands in brackets is never read as JSON."""
    (step,) = parse('Plan: p\n#E1 = LLM[{"a": 1}]').steps
    assert (step.tool_input, step.arguments) == ('{"a": 1}', None)


@given(valid_plans())
def test_lenient_executors_read_what_we_write(plan):
    """A parser that stops at the first bracket, as LangGraph's example does, finds the same steps."""
    found = STEP.findall(render(plan))
    assert found == [(s.id, s.tool, s.tool_input) for s in plan.steps]


def test_tenth_step_is_a_step():
    """#E10 is read as itself: the paper's parser turns it into "No evidence found"."""
    text = "\n".join(f"Plan: p\n#E{n} = T[x]" for n in range(1, 11)) + "\nPlan: p\n#E11 = T[#E10]"
    assert parse(text).steps[10].depends_on == ("#E10",)


def test_repeated_id_is_kept():
    """The second #E1 does not overwrite the first, as in the paper's parser; problems() reports it."""
    plan = parse("Plan: a\n#E1 = T[x]\nPlan: b\n#E1 = T[y]")
    assert [s.tool_input for s in plan.steps] == ["x", "y"]
    assert [p.kind for p in plan.problems(["T"])] == ["duplicate_id"]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "there is no step"),
        ("Sure! Here is a plan", 1, "expected 'Plan: ...', got 'Sure! Here is a plan'"),
        ("Plan: a", 1, "the text ends after 'Plan: ...'"),
        ("Plan: a\nPlan: b\n#E1 = T[x]", 2, "expected '#E1 = Tool[input]', got 'Plan: b'"),
        ("Plan: a\n#E1 = T[x]\n#E2 = T[y]", 3, "expected 'Plan: ...'"),
        ("Plan: a\n#E1 = T[x", 2, "expected '#E1 = Tool[input]'"),
        ("Plan: a\n#E1 = T[x] and more", 2, "expected '#E1 = Tool[input]'"),
        ("Plan: a\n#E1 = T[]", 2, "at least 1 character"),
        ("Plan: a\n#E1 = T[[1]]", 2, "square bracket"),
        ("Plan: a\n#E1 = web search[x]", 2, "tool 'web search'"),
        ("Plan: a\n#E0 = T[x]", 2, "step id '#E0'"),
        ('Plan: a\n#E1 = T{"a": 1', 2, "expected '#E1 = Tool[input]'"),
        ('Plan: a\n#E1 = T{"a": }', 2, "are no JSON: Expecting value"),
        ('Plan: a\n#E1 = T{"a": 1, "a": 2}', 2, "the argument 'a' is given twice"),
        ('Plan: a\n#E1 = T{"a": NaN}', 2, "not JSON compliant"),
        ('Plan: a\n#E1 = T{"a": 1e999}', 2, "not JSON compliant"),
        ('Plan: a\n#E1 = T{"a": "\\ud800"}', 2, "half of a surrogate pair"),
        ('Plan: a\n#E1 = T{"a": ' + "[" * 9_000 + "]" * 9_000 + "}", 2, "nested too deeply"),
        ("Plan: a\n#E1 = T[" + "x" * 40_001 + "]", 2, "at most 40000 characters"),
        ("Plan: a\n#E1 = T[x]\nPlan: " + "x" * 41_001, 3, "the line has more than 41000 characters"),
        ("Plan: a\u2028#E1 = T[x]", 1, "the text ends after 'Plan: ...'"),
        ("Plan: " + "a" * 100 + "\n" + "b" * 100, 2, "got 'bbb"),
    ],
)
def test_syntax_errors_name_the_line(text, line, message):
    """What is no plan is refused with the line and what was expected there."""
    with pytest.raises(PlanSyntaxError) as caught:
        parse(text)
    assert caught.value.line == line
    assert message in str(caught.value)
    assert len(str(caught.value)) < 200


def test_syntax_error_keeps_the_steps_before_it():
    """A repair can start from the steps that were sound."""
    with pytest.raises(PlanSyntaxError) as caught:
        parse(TWO + "\nPlan: and th")
    assert caught.value.steps == parse(TWO).steps


@given(st.text(st.sampled_from("Plan: #E1=T[x]\n\r\x0b\u2028 0a"), max_size=80))
def test_parser_never_fails_otherwise(text):
    """Any text either is a plan that renders to text that parses the same, or is a PlanSyntaxError."""
    try:
        plan = parse(text)
    except PlanSyntaxError:
        return
    assert parse(render(plan)) == plan
