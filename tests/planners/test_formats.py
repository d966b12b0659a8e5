"""A plan in the forms that others read, checked with readers written after those."""

import ast
import re

import pytest
from hypothesis import given
from plan_strategies import json_plans, valid_plans

from planners import Plan, PlanStep

TASK = re.compile(r"(?P<number>[0-9]+)\. (?P<call>.+)")
ID = re.compile(r"\$(?:\{([0-9]+)\}|([0-9]+))")


def step(number: int, text: str = "x", **fields) -> PlanStep:
    """A step that takes text, or what is given."""
    if "arguments" not in fields:
        fields["tool_input"] = text
    return PlanStep(**{"id": f"#E{number}", "thought": "think", "tool": "search", **fields})


def tasks_of(text: str) -> list[tuple[int, str, str, list, dict]]:
    """Number, thought, tool, values and named values of each task: its call is read as Python's."""
    tasks, thought = [], ""
    for line in text.split("\n"):
        if line.startswith("Thought: "):
            thought = line.removeprefix("Thought: ")
            continue
        found = TASK.fullmatch(line)
        call = ast.parse(found["call"], mode="eval").body
        values = [ast.literal_eval(value) for value in call.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        tasks.append((int(found["number"]), thought, call.func.id, values, named))
        thought = ""
    return tasks


def back(value):
    """A value with references as we write them."""
    if isinstance(value, str):
        return ID.sub(lambda found: f"#E{int(found[1] or found[2])}", value)
    if isinstance(value, list):
        return [back(item) for item in value]
    if isinstance(value, dict):
        return {key: back(item) for key, item in value.items()}
    return value


def unpriced(value):
    """What the form keeps of a value: after a dollar sign that looks like a reference stands a space."""
    if isinstance(value, str):
        return re.sub(r"\$(?=\{?\d)", "$ ", value)
    if isinstance(value, list):
        return [unpriced(item) for item in value]
    if isinstance(value, dict):
        return {key: unpriced(item) for key, item in value.items()}
    return value


def test_llmcompiler_text():
    """Tasks read as in the paper, with a thought before each and join() after the last."""
    plan = Plan(steps=(step(1, "height of Everest"), step(2, "#E1 + 2", thought="Add.", tool="math")))
    assert plan.to_llmcompiler() == (
        'Thought: think\n1. search("height of Everest")\nThought: Add.\n2. math("$1 + 2")\n3. join()'
    )


def test_llmcompiler_arguments():
    """JSON arguments get their names; text gets one if it is told."""
    arguments = {"who": "#E1", "when": [None, True, 1.5], "how": {"a": "b"}}
    plan = Plan(steps=(step(1), step(2, tool="lookup", arguments=arguments)))
    assert plan.to_llmcompiler({"search": "query"}).split("\n")[1::2] == [
        '1. search(query="x")',
        '2. lookup(who="$1", when=[None, True, 1.5], how={\'a\': "b"})',
    ]


@given(valid_plans())
def test_a_reader_of_calls_reads_it(plan):
    """Numbers, thoughts, tools, inputs and dependencies come back."""
    *tasks, join = tasks_of(plan.to_llmcompiler())
    assert [(n, thought, tool, back(values[0])) for n, thought, tool, values, _ in tasks] == [
        (n, s.thought, s.tool, unpriced(s.tool_input)) for n, s in enumerate(plan.steps, start=1)
    ]
    needs = [{int(a or b) for a, b in ID.findall(values[0])} for _, _, _, values, _ in tasks]
    assert needs == [{int(ref[2:]) for ref in s.depends_on} for s in plan.steps]
    assert join == (len(plan.steps) + 1, "", "join", [], {})


# Properties that are Python identifiers, as tools have them.
NAMES = ["who", "facts", "limit"]


@given(json_plans())
def test_named_arguments_come_back(plan):
    """Each has its name and value; no value holds "=", by which some readers look for the next name."""
    steps = [
        step(n, tool="lookup", arguments=dict(zip(NAMES, s.arguments.values(), strict=False)))
        if s.arguments is not None
        else step(n, "who=x, facts=y", tool="lookup")
        for n, s in enumerate(plan.steps, start=200)
    ]
    text = Plan(steps=tuple(steps)).to_llmcompiler({"lookup": "who"})
    *tasks, join = tasks_of(text)
    assert [(n, back(named)) for n, _, _, _, named in tasks] == [
        (int(s.id[2:]), unpriced(s.arguments if s.arguments is not None else {"who": s.tool_input}))
        for s in steps
    ]
    assert join == (200 + len(steps), "", "join", [], {})


def test_no_value_looks_like_a_name():
    """The one equals sign is the argument's own."""
    plan = Plan(steps=(step(1, "who=x, facts=y", tool="lookup"),))
    assert plan.to_llmcompiler({"lookup": "who"}).split("\n")[1] == r'1. lookup(who="who\x3dx, facts\x3dy")'


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("costs $1", "costs $ 1"),
        ("costs ${1}", "costs $ {1}"),
        ("$#E1", "$$1"),
        ("#E1#E2", "$1$2"),
        ("{#E1}", "{${1}}"),
        ("#E1\u0663", "${1}\u0663"),
        ("$x, #E10", "$x, $10"),
    ],
)
def test_only_references_are_references(text, written):
    """A price is none, and what stands beside a reference is no part of it."""
    steps = [*(step(n) for n in range(1, 11)), step(11, text)]
    line = Plan(steps=tuple(steps)).to_llmcompiler().split("\n")[-2]
    assert line == f'11. search("{written}")'
    assert [int(a or b) for a, b in ID.findall(line)] == [int(ref[2:]) for ref in steps[-1].depends_on]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step(2), step(1)], "#E1 stands after #E2: LLMCompiler needs rising numbers"),
        ([step(1), step(1)], "#E1 stands after #E1"),
        ([step(1, "#E2"), step(2)], "#E1 refers to #E2, which is not done before it"),
        ([step(1, "#E1")], "#E1 refers to #E1"),
        ([step(1, tool="join")], "a tool 'join', which ends an LLMCompiler plan"),
    ],
)
def test_plans_that_llmcompiler_would_run_wrongly(steps, message):
    """Its executor would drop a task, a dependency or the rest of the plan without a word."""
    with pytest.raises(ValueError, match=message):
        Plan(steps=tuple(steps)).to_llmcompiler()


def test_a_continued_plan_keeps_its_numbers():
    """Known results are known to the executor under their numbers too."""
    assert Plan(steps=(step(3, "#E1"),)).to_llmcompiler().split("\n")[1:] == ['3. search("$1")', "4. join()"]


def test_todos():
    """A to-do item holds what to do, the call and what it waits for; done steps are completed."""
    plan = Plan(
        steps=(step(1), step(2, "#E1", thought="Compare."), step(3, tool="t", arguments={"a": "#E1"}))
    )
    assert plan.to_todos(done=["#E1"]) == [
        {"content": "think (#E1 = search[x])", "status": "completed"},
        {"content": "Compare. (#E2 = search[#E1] after #E1)", "status": "pending"},
        {"content": 'think (#E3 = t{"a": "#E1"} after #E1)', "status": "pending"},
    ]


@given(json_plans())
def test_todos_hold_what_agents_keep(plan):
    """Nothing but LangChain's two keys, one item a step, each on one line and found by its id."""
    todos = plan.to_todos()
    assert [set(todo) for todo in todos] == [{"content", "status"}] * len(plan.steps)
    for todo, made in zip(todos, plan.steps, strict=True):
        assert f"({made.id} = {made.tool}" in todo["content"]
        assert len(todo["content"].splitlines()) == 1


def test_llmcompiler_names_hold_letters_digits_and_underscores():
    """Its executors look for nothing else; two tools that would then be one are refused."""
    steps = (step(1, tool="web-search"), step(2, tool="2nd.look"))
    assert Plan(steps=steps).to_llmcompiler().split("\n")[1::2] == ['1. web_search("x")', '2. _2nd_look("x")']
    with pytest.raises(
        ValueError, match="'web-search' and 'web_search' are both 'web_search' to LLMCompiler"
    ):
        Plan(steps=(*steps[:1], step(2, tool="web_search"))).to_llmcompiler()
