"""What a plan says about itself."""

import pytest
from hypothesis import given
from plan_strategies import TOOLS, any_plans, json_plans, valid_plans
from pydantic import ValidationError

from planners import Plan, PlanMeta, PlannerInput, PlanStep, ToolSpec


def step(number: int, text: str = "x", tool: str = "Search") -> PlanStep:
    """A step with nothing remarkable but what is given."""
    return PlanStep(id=f"#E{number}", thought="think", tool=tool, tool_input=text)


def kinds(*steps: PlanStep, evidence=()) -> list[tuple[str, str | None]]:
    """Kind and step of each problem of a plan over Search and LLM."""
    return [(p.kind, p.step) for p in Plan(steps=steps).problems(["Search", ToolSpec(name="LLM")], evidence)]


def test_references_are_read_off_the_input():
    """depends_on holds each reference once, in order; #E10 is not #E1."""
    assert step(11, "#E10 then #E2, #E10").depends_on == ("#E10", "#E2")


def test_references_cannot_be_claimed():
    """A depends_on that says something else than the input is refused; the true one is accepted."""
    fields = {"id": "#E2", "thought": "t", "tool": "LLM", "tool_input": "#E1"}
    assert PlanStep(**fields, depends_on=["#E1"]).depends_on == ("#E1",)
    with pytest.raises(ValidationError, match=r"depends_on is \[\], but tool_input refers to \['#E1'\]"):
        PlanStep(**fields, depends_on=[])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("id", "E1", "step id 'E1': write #E1"),
        ("id", "#E0", "step id '#E0'"),
        ("id", "#E١", "step id '#E١'"),
        ("tool", "web search", "tool 'web search'"),
        ("thought", " ", "at least 1 character"),
        ("thought", "a\nPlan: b", r"control character U\+000A"),
        ("tool_input", "a\u2028b", r"control character U\+2028"),
        ("tool_input", "[1, 2]", "square bracket"),
    ],
)
def test_unwritable_steps(field, value, message):
    """A step that could not be written as ReWOO text and read back cannot exist."""
    with pytest.raises(ValidationError, match=message):
        PlanStep(**{"id": "#E1", "thought": "t", "tool": "LLM", "tool_input": "x", field: value})


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], [("empty", None)]),
        ([step(1), step(1)], [("duplicate_id", "#E1")]),
        ([step(1, tool="Google")], [("unknown_tool", "#E1")]),
        ([step(1, "#E1")], [("self_reference", "#E1")]),
        ([step(1, "#E2"), step(2)], [("forward_reference", "#E1")]),
        ([step(1), step(2, "#E1 #E3")], [("unknown_evidence", "#E2")]),
        (
            [step(1, "#E9", tool="X"), step(1, "#E1")],
            [("unknown_tool", "#E1"), ("unknown_evidence", "#E1"), ("duplicate_id", "#E1")],
        ),
        ([step(1), step(2, "#E1"), step(3, "#E1 #E2", tool="LLM")], []),
    ],
)
def test_every_defect_is_named(steps, expected):
    """Each kind of defect is reported with its step, in order; a sound plan has none."""
    assert kinds(*steps) == expected


LOOKUP = ToolSpec(
    name="Lookup",
    parameters={
        "type": "object",
        "properties": {"who": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["who"],
    },
)


def lookup(number: int, **arguments) -> PlanStep:
    """A step with JSON arguments."""
    return PlanStep(id=f"#E{number}", thought="think", tool="Lookup", arguments=arguments)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lookup(1, who=7), "step #E1 gives Lookup wrong arguments: $.who: 7 is not a string"),
        (lookup(1, n=7), "step #E1 gives Lookup wrong arguments: $: property 'who' is missing"),
        (
            step(1, tool="Lookup"),
            'step #E1 gives Lookup text; it takes JSON arguments: Lookup{"who": string, "n"?: integer}',
        ),
        (
            PlanStep(id="#E1", thought="t", tool="LLM", arguments={"q": "x"}),
            "step #E1 gives LLM JSON arguments; it takes text: LLM[text]",
        ),
    ],
)
def test_wrong_arguments(wrong, message):
    """Arguments that the tool does not take, and text for JSON or the other way round, are named."""
    (found,) = Plan(steps=(wrong,)).problems([LOOKUP, ToolSpec(name="LLM")])
    assert (found.kind, found.step, str(found)) == ("bad_arguments", "#E1", message)


def test_arguments_are_checked_once():
    """A reference may stand for any value; one that is not known yet is one problem, not two."""
    plan = Plan(steps=(lookup(1, who="Ada"), lookup(2, who="x #E1", n="#E1"), lookup(3, who="#E4")))
    assert [(p.kind, p.step) for p in plan.problems([LOOKUP])] == [("unknown_evidence", "#E3")]


def test_a_bare_name_takes_anything():
    """Without a ToolSpec the tool's arguments are not known, so any are valid."""
    assert Plan(steps=(lookup(1, x=1), step(2, tool="Lookup"))).problems(["Lookup"]) == ()


def test_arguments_are_a_copy():
    """A plan cannot be changed through the arguments that it was made from."""
    given = {"who": ["Ada"]}
    made = PlanStep(id="#E1", thought="t", tool="Lookup", arguments=given)
    given["who"].append("Bob")
    assert made.arguments == {"who": ["Ada"]}
    assert len({made, made.model_copy()}) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tool_input": '{"a": 2}'}, "tool_input says something else than arguments"),
        ({"tool_input": '{"a": true}'}, "tool_input says something else than arguments"),
        ({"tool_input": "a"}, "tool_input says something else than arguments"),
        ({"arguments": {"a": float("inf")}}, "not JSON compliant"),
        ({"arguments": {"a": {1}}}, "the arguments are no JSON"),
        ({"arguments": {"a": {1: 2}}}, "valid string"),
        ({"arguments": {"a": "\ud800"}}, "half of a surrogate pair"),
    ],
)
def test_arguments_that_cannot_be(fields, message):
    """What JSON cannot hold, and an input that says something else, is refused."""
    with pytest.raises(ValidationError, match=message):
        PlanStep(**{"id": "#E1", "thought": "t", "tool": "T", "arguments": {"a": 1}, **fields})


def test_input_may_be_spelled_otherwise():
    """An equal JSON text is taken, and written in the one way that plans are written in."""
    made = PlanStep(id="#E1", thought="t", tool="T", tool_input='{"b":2,"a":1}', arguments={"a": 1, "b": 2})
    assert made.tool_input == '{"a": 1, "b": 2}'


@given(json_plans())
def test_json_arguments_survive_json(plan):
    """A plan with arguments survives the wire, where fields without a value are left out."""
    text = plan.model_dump_json(exclude_none=True)
    assert Plan.model_validate_json(text) == plan


def test_problems_are_short_enough_for_feedback():
    """Whatever names and references a plan has, each problem can be told to the planner again."""
    tools = [ToolSpec(name=f"T{n:063}") for n in range(200)]
    plan = Plan(steps=(step(1, "#E" + "9" * 9_000, tool="G" * 64),))
    found = plan.problems(tools)
    assert [p.kind for p in found] == ["unknown_tool", "unknown_evidence"]
    assert "and 197 more" in str(found[0])
    assert PlannerInput(task="x", tools=tools, feedback=[str(p) for p in found]).feedback


def test_cut_off_plan():
    """A plan whose answer hit the token limit says so, even if what is there is sound."""
    meta = PlanMeta(planner="p", revision="r", base_model="b", finish_reason="length")
    assert [p.kind for p in Plan(steps=(step(1),), meta=meta).problems(["Search"])] == ["truncated"]


def test_more_steps_than_asked_for():
    """A plan over the limit is reported with both numbers; one at the limit is sound."""
    plan = Plan(steps=(step(1), step(2)))
    (problem,) = plan.problems(["Search"], max_steps=1)
    assert (problem.kind, problem.message) == (
        "too_many_steps",
        "the plan has 2 steps, at most 1 were asked for",
    )
    assert plan.problems(["Search"], max_steps=2) == ()


def test_known_evidence_may_be_used():
    """Results from before the plan count as known, and their ids are taken."""
    assert kinds(step(3, "#E1"), evidence=["#E1", "#E2"]) == []
    assert kinds(step(1), evidence=["#E1"]) == [("duplicate_id", "#E1")]


def test_problem_texts_can_be_shown_to_a_model():
    """A problem reads as a sentence that names the step and what was offered."""
    (problem,) = Plan(steps=(step(1, tool="Google"),)).problems(["Search", "LLM"])
    assert str(problem) == "step #E1 uses 'Google'; offered: LLM, Search"


def test_levels_of_a_diamond():
    """Two searches run together, then what compares them."""
    plan = Plan(steps=(step(1), step(2), step(3, "#E1 #E2"), step(4, "#E1")))
    assert [[s.id for s in level] for level in plan.levels()] == [["#E1", "#E2"], ["#E3", "#E4"]]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step(1), step(1)], "#E1 appears twice"),
        ([step(1, "#E2"), step(2, "#E1")], "#E1 refers to #E2, which is not done"),
    ],
)
def test_levels_of_a_broken_plan(steps, message):
    """A plan that cannot be ordered is refused rather than run in part."""
    with pytest.raises(ValueError, match=message):
        Plan(steps=tuple(steps)).levels()


@given(valid_plans())
def test_levels_respect_every_reference(plan):
    """Each step stands once, after all that it refers to."""
    done: set[str] = set()
    for level in plan.levels():
        assert all(set(s.depends_on) <= done for s in level)
        done |= {s.id for s in level}
    assert sorted(done) == sorted(s.id for s in plan.steps)


@given(any_plans())
def test_sound_means_executable(plan):
    """problems() is empty only if levels() can order the plan and every reference is produced by it."""
    if not plan.problems(TOOLS):
        plan.levels()
        ids = {s.id for s in plan.steps}
        assert all(set(s.depends_on) <= ids for s in plan.steps)


@given(any_plans())
def test_json_round_trip(plan):
    """A plan survives JSON, defects included."""
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
