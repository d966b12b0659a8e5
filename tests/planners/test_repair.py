"""What can be mended of a plan that a planner wrote freely, and that nothing is mended silently."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_strategies import TOOLS, valid_plans

from planners import Plan, PlannerInput, PlanStep, ToolSpec, parse, render, repair

LOOKUP = ToolSpec(
    name="Lookup",
    parameters={
        "type": "object",
        "properties": {"who": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["who"],
    },
)
REQUEST = PlannerInput(task="Who?", tools=[*(ToolSpec(name=name) for name in TOOLS), LOOKUP], max_steps=14)
ONE = "Plan: a\n#E1 = Search[x]"
TWO = ONE + "\nPlan: b\n#E2 = LLM[#E1 y]"


def mended(text: str, **changes) -> tuple[str, int]:
    """The plan's text and how many changes it took; each must have a note."""
    found = repair(text, REQUEST.model_copy(update=changes))
    assert found.problems == ()
    assert len(found.notes) == found.repairs
    return render(found.plan), found.repairs


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("Sure! Here is the plan:\n\n" + TWO, 1),
        (TWO + "\n\nLet me know if this helps!\nBye.", 1),
        (f"```text\n{TWO}\n```", 2),
        (TWO.replace("Plan: a", "Plan 1: a"), 1),
        (TWO.replace("Plan: a", "**Plan:** a"), 1),
        (TWO.replace("Plan: a", "- Plan: **a**"), 1),
        (TWO.replace("Plan: a", "## Step 1: a"), 1),
        (TWO.replace("Plan: a", "1. a"), 1),
        (TWO.replace("Plan: a\n", "Plan: a "), 1),
        (TWO.replace("Plan: a", "Plan:\nPlan: a"), 1),
        (TWO.replace("Plan: a", "\x00Plan: a\x07"), 1),
        (TWO.replace("#E1 = Search[", "#E1=Search ["), 1),
        (TWO.replace("#E1 = Search[", "* `#E1` = Search["), 2),
        (TWO.replace("Search[x]", "Search(x)"), 1),
        (TWO.replace("Search[x]", "search[x]"), 1),
        (TWO.replace("LLM[", "l-l_m["), 1),
        (TWO.replace("[x]", "[x] (from the web)"), 1),
        (TWO.replace("[x]", "[x"), 1),
        (TWO.replace("[x]", "[\x00x\x7f]"), 1),
        (TWO.replace("[x]", "[\nx\n]"), 1),
        (TWO.replace("#E2 =", "#E1 ="), 1),
        ("Sure!\n" + TWO.replace("#E2 =", "#E7 ="), 2),
        (TWO.replace("#E2 =", "#E02 ="), 1),
        (TWO.replace("#E2", "#E1").replace("#E1 =", "#E0 =", 1).replace("[#E1", "[#E0"), 3),
        ("Sure!\n" + TWO.replace("#E1", "#E10").replace("#E2", "#E100"), 4),
        (TWO.replace("#E1", "E1").replace("#E2", "E2"), 3),
        (TWO.replace("#E1 y", "#E01 y"), 1),
        (TWO.replace("#E2 = ", "#E2: "), 1),
    ],
)
def test_what_models_write(text, changes):
    """Chatter, markup, spelling, numbering and stray characters are mended, and each is one change."""
    assert mended(text) == (TWO, changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#E1 = Search[x]", "Plan: Use Search.\n#E1 = Search[x]"),
        ("Plan: a\n#E1 = LLM[sum [1, 2] and [3]]", "Plan: a\n#E1 = LLM[sum (1, 2) and (3)]"),
        ("Plan: a\n#E1 = LLM[sum [1, 2]", "Plan: a\n#E1 = LLM[sum (1, 2]"),
        ("Plan: a\n#E1 = Lookup[Ada]", 'Plan: a\n#E1 = Lookup{"who": "Ada"}'),
        ('Plan: a\n#E1 = Lookup({"who": "Ada"})', 'Plan: a\n#E1 = Lookup{"who": "Ada"}'),
        ('Plan: a\n#E1 = Lookup[{"who": "A",\n "n": 2}]', 'Plan: a\n#E1 = Lookup{"who": "A", "n": 2}'),
        ('Plan: a\n#E1 = Lookup{"who": "line\nbreak"}', 'Plan: a\n#E1 = Lookup{"who": "line\\nbreak"}'),
        ('Plan: a\n#E1 = LLM{"prompt": "x"}', "Plan: a\n#E1 = LLM[x]"),
    ],
)
def test_inputs(text, expected):
    """A missing thought is named after the tool; an input takes the form that the tool takes."""
    assert mended(text)[0] == expected


@pytest.mark.parametrize(
    ("rest", "kind", "message"),
    [
        (
            "Plan: b\n#E2 = Google[x]",
            "unknown_tool",
            "#E2 uses 'Google'; offered: Search, LLM, do_math, Lookup",
        ),
        ("Plan: b\n#E2 = LLM[#E3]\nPlan: c\n#E3 = LLM[x]", "forward_reference", "#E3, which comes later"),
        ("Plan: b\n#E2 = LLM[#E2]", "self_reference", "step #E2 refers to itself"),
        ("Plan: b\n#E2 = LLM[#E9]", "unknown_evidence", "'#E9', which no step produces"),
        ("Plan: b\n#E2 = LLM[x and", "truncated", "step #E2 is cut off: '#E2 = LLM[' has no end"),
        ('Plan: b\n#E2 = Lookup{"who": "x', "truncated", "step #E2 is cut off"),
        ("Plan: b", "truncated", "the text ends in the middle of a step"),
        ("Plan: b\n#E2 = LLM[]", "syntax", "step #E2 cannot be written: String should have at least 1 char"),
        ('Plan: b\n#E2 = Lookup{"who": 7}', "bad_arguments", "$.who: 7 is not a string"),
        ('Plan: b\n#E2 = Lookup{"who": x}\nPlan: c\n#E3 = LLM[x]', "bad_arguments", "its JSON is wrong"),
        ('Plan: b\n#E2 = Lookup{"who": "x", "who": "y"}', "bad_arguments", "'who' is given twice"),
    ],
)
def test_cut_at_the_first_step_that_cannot_be_mended(rest, kind, message):
    """The steps before it are a valid plan; why the others are missing is said."""
    found = repair(f"{ONE}\n{rest}", REQUEST)
    assert (render(found.plan), found.problems, found.cut.kind) == (ONE, (), kind)
    assert message in str(found.cut)
    assert found.notes[-1] == f"cut after #E1: {found.cut}"
    assert found.repairs == len(found.notes)


@pytest.mark.parametrize(
    ("text", "kinds", "message"),
    [
        ("", ["syntax", "empty"], "there is no step"),
        ("I do not know.", ["syntax", "empty"], "line 1: expected 'Plan: ...', got 'I do not know.'"),
        ("Plan: a\n#E1 = Oven[cake]", ["unknown_tool", "empty"], "step #E1 uses 'Oven'"),
        ("Plan: a\n#E1 = Search[x", ["truncated", "empty"], "step #E1 is cut off"),
        ('Plan: a\n#E1 = Lookup{"a": ' + "[" * 9_000, ["bad_arguments", "empty"], "nested too deeply"),
        (
            'Plan: a\n#E1 = Lookup{"who": ' + "[" * 500 + "]" * 500 + "}",
            ["syntax", "empty"],
            "step #E1 cannot be written",
        ),
    ],
)
def test_nothing_to_mend(text, kinds, message):
    """Without a single valid step there is no plan; the first problem says why."""
    found = repair(text, REQUEST)
    assert (found.plan, [problem.kind for problem in found.problems]) == (Plan(steps=()), kinds)
    assert message in str(found.problems[0])


def test_too_many_steps():
    """Steps beyond what was asked for are cut, and counted."""
    found = repair(TWO, REQUEST.model_copy(update={"max_steps": 1}))
    assert (render(found.plan), found.repairs, found.cut.kind) == (ONE, 1, "too_many_steps")


def test_known_results_keep_their_numbers():
    """A planner that starts at #E1 again is renumbered; until then #E1 means the known result."""
    evidence = {"#E1": "r", "#E2": "s"}
    text = "Plan: a\n#E1 = LLM[#E1 #E2]\nPlan: b\n#E2 = LLM[#E1 #E2]"
    expected = "Plan: a\n#E3 = LLM[#E1 #E2]\nPlan: b\n#E4 = LLM[#E3 #E2]"
    assert mended(text, evidence=evidence) == (expected, 3)


def test_a_repeated_id_means_the_latest():
    """A reference to an id that two steps have means the nearer one before it."""
    text = "Plan: a\n#E1 = Search[x]\nPlan: b\n#E1 = LLM[#E1]\nPlan: c\n#E2 = LLM[#E1]"
    expected = "Plan: a\n#E1 = Search[x]\nPlan: b\n#E2 = LLM[#E1]\nPlan: c\n#E3 = LLM[#E2]"
    assert mended(text) == (expected, 3)


def test_a_gap_is_no_fault():
    """A valid plan whose numbers have gaps runs as it is, so it is left as it is."""
    text = TWO.replace("#E2 =", "#E7 =")
    assert mended(text) == (text, 0)


def test_renumbering_does_not_touch_longer_numbers():
    """#E10 becomes #E9 in thoughts and JSON; what begins #E10 and #E100 is no reference to #E1."""
    steps = [f"Plan: p\n#E{n} = Search[x]" for n in [*range(1, 9), 10, 100, 1]]
    last = 'Plan: #E10, #E100\n#E7 = Lookup{"who": "#E10 #E100 #E1 #E8"}'
    plan = parse(mended("\n".join([*steps, last]))[0])
    assert (plan.steps[-1].thought, plan.steps[-1].arguments) == ("#E9, #E10", {"who": "#E9 #E10 #E11 #E8"})


def test_arguments_of_a_shared_spelling_are_not_guessed():
    """Two tools whose names differ in case only are told apart by their exact names, or not at all."""
    tools = (ToolSpec(name="search"), ToolSpec(name="Search"))
    request = PlannerInput(task="x", tools=tools)
    assert repair(ONE, request).repairs == 0
    assert repair(ONE.replace("Search", "SEARCH"), request).problems[0].kind == "unknown_tool"


def test_what_is_in_an_input_is_no_step():
    """A call inside JSON or brackets is text."""
    text = 'Plan: a\n#E1 = Lookup{"who": "see\\nPlan: b"}\nPlan: c\n#E2 = LLM(why E1 = Search(x) fails)'
    found = repair(text, REQUEST)
    assert [s.tool for s in found.plan.steps] == ["Lookup", "LLM"]
    assert found.plan.steps[1].tool_input == "why E1 = Search(x) fails"


@given(valid_plans())
def test_a_valid_plan_is_not_touched(plan):
    """What parses and has no problems comes back as it is, without a repair."""
    found = repair(render(plan), REQUEST)
    assert (found.plan, found.repairs, found.notes, found.problems, found.cut) == (plan, 0, (), (), None)


def _written(numbers: list[int], plan: Plan) -> str:
    """The plan's text with these step numbers, references changed with them."""
    names = {step.id: f"#E{n}" for step, n in zip(plan.steps, numbers, strict=False)}
    return "\n".join(
        f"Plan: {step.thought}\n{names[step.id]} = {step.tool}["
        + " ".join(names.get(word, word) for word in step.tool_input.split(" "))
        + "]"
        for step in plan.steps
    )


@given(
    valid_plans(),
    st.permutations(range(1, 15)) | st.permutations([1, 9, 10, 11, 90, 99, 100, *range(900, 910)]),
)
def test_references_follow_their_steps(plan, numbers):
    """However steps are numbered, the mended plan is the one that was meant, to the letter."""
    assert repair("Sure!\n" + _written(numbers, plan), REQUEST).plan == plan


def parses_as(text: str, plan: Plan) -> bool:
    """Whether the strict parser reads the plan in the text."""
    try:
        return parse(text) == plan
    except ValueError:
        return False


FRAGMENTS = [
    *(
        "Plan: ",
        "Plan 1:",
        "**Plan**: ",
        "Thought: x",
        "- ",
        "1. ",
        "```",
        "Sure!",
        "a b",
        "\n",
        "\n",
        "\n\n",
    ),
    *(
        "#E1",
        "#E2",
        "#E10",
        "#E0",
        "E1",
        " = ",
        "=",
        ": ",
        "Search[",
        "search(",
        "LLM[",
        "Google[",
        "Lookup{",
    ),
    *(
        '{"who": "',
        '"}',
        '"',
        "}",
        "]",
        "]",
        ")",
        "[",
        "#",
        "\x00",
        "\u2028",
        "\r\n",
        "x",
        "ſearch[",
        "\ud800",
    ),
    *("#E1 = Search[x]\n", "Plan: a\n#E1 = LLM[b]\n", 'Plan: c\n#E2 = Lookup{"who": "#E1"}\n'),
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join) | st.text(max_size=60))
def test_any_text_gives_a_valid_plan_or_a_reason(text):
    """Repair never raises; its plan is valid or it says why not; each change is noted; twice is once."""
    found = repair(text, REQUEST)
    assert found.problems or not found.plan.problems(REQUEST.tools, max_steps=REQUEST.max_steps)
    assert bool(found.plan.steps) != bool(found.problems)
    assert len(found.notes) == found.repairs
    if found.plan.steps:
        assert (found.repairs == 0) == parses_as(text, found.plan)
        again = repair(render(found.plan), REQUEST)
        assert (again.plan, again.repairs) == (found.plan, 0)
    assert PlannerInput(task="x", tools=[LOOKUP], feedback=[str(problem) for problem in found.problems])


@pytest.mark.parametrize(
    "unit",
    ["#E1 = Search[", "Plan: a #E1 = ", '#E1 = Lookup{"who":"', "E 1", "((((", "- a\n", "Plan: x\n", "\n"],
)
def test_long_texts_take_no_longer_than_they_must(unit):
    """A text of one fragment, a hundred thousand times, is read to its end at once."""
    found = repair(unit * 100_000, REQUEST)
    assert sum(len(note) for note in found.notes) < 10_000


def test_the_types_hold_what_the_plan_holds():
    """A step with arguments that was mended is as good as one that was made."""
    (step,) = repair('#E4 = lookup({"who": "Ada"})', REQUEST).plan.steps
    assert step == PlanStep(id="#E1", thought="Use Lookup.", tool="Lookup", arguments={"who": "Ada"})
