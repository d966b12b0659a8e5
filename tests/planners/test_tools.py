"""What a planner may be asked."""

import pytest
from pydantic import ValidationError

from planners import PlannerInput, ToolSpec
from planners.arguments import Arguments
from planners.tools import MAX_STEPS, MAX_TASK_CHARS, MAX_TOOLS

SEARCH = ToolSpec(name="Search", description="finds facts")


def refusal(**changes) -> str:
    """The messages of the refusal of an otherwise good request."""
    with pytest.raises(ValidationError) as caught:
        PlannerInput(**{"task": "Where was she born?", "tools": [SEARCH], **changes})
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["Search", "_x", "a" * 128, "search_web2", "web-search", "files.read", "2nd"]
)
def test_usable_tool_names(name):
    """Names as OpenAI and MCP have them are taken as they are."""
    assert ToolSpec(name=name).name == name


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("web search", "web_search"),
        ("-web", "web"),
        ("a b", "a_b"),
        ("", "Tool"),
        ("ä", "Tool"),
        ('x"|', "x"),
        ("b" * 129, "b" * 128),
        ("a\nb", "a_b"),
        ("Search\n", "Search"),
        ("get-item's", "get-item_s"),
        ('"; root ::= "x', "root_x"),
        ("日本", "Tool"),
        ("#E1", "E1"),
    ],
)
def test_unusable_tool_names_get_a_suggestion(name, better):
    """A name that text or grammar could not hold is refused, naming it and one that works."""
    with pytest.raises(ValidationError) as caught:
        ToolSpec(name=name)
    assert f"tool name {name!r}" in str(caught.value)
    assert f"such as {better!r}" in str(caught.value)
    assert ToolSpec(name=better).name == better


def test_same_tool_twice():
    """Two tools of one name cannot be told apart in a plan."""
    assert "tool 'Search' is offered 2 times" in refusal(tools=[SEARCH, SEARCH])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": " \n "}, "at least 1 character"),
        ({"task": "x" * (MAX_TASK_CHARS + 1)}, f"at most {MAX_TASK_CHARS} characters"),
        ({"task": "a\x00b"}, "control character U+0000 at position 1"),
        ({"tools": []}, "at least 1 item"),
        ({"tools": [ToolSpec(name=f"T{n}") for n in range(MAX_TOOLS + 1)]}, f"at most {MAX_TOOLS} items"),
        ({"max_steps": 0}, "greater than or equal to 1"),
        ({"max_steps": MAX_STEPS + 1}, f"less than or equal to {MAX_STEPS}"),
        ({"evidence": {"#E2": "x"}}, "evidence '#E2': 1 results are called #E1, without a gap"),
        (
            {"evidence": {"#E1": "x", "E2": "y"}},
            "evidence 'E2': 2 results are called #E1 to #E2, without a gap",
        ),
        ({"temperature": 1}, "Extra inputs are not permitted"),
    ],
)
def test_refusals_name_the_fault(changes, message):
    """A request outside the limits is refused with the field, the value or the limit in the message."""
    assert message in refusal(**changes)


PARAMETERS = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}


def test_tools_with_parameters():
    """A tool with a schema takes JSON arguments; it stays a value that survives JSON and can be a key."""
    tool = ToolSpec(name="find", parameters=PARAMETERS)
    assert tool.arguments == Arguments.of(PARAMETERS)
    assert SEARCH.arguments is None
    assert ToolSpec.model_validate_json(tool.model_dump_json()) == tool
    assert {tool: 1}[ToolSpec(name="find", parameters=dict(PARAMETERS))] == 1


def test_unusable_parameters_name_the_tool():
    """A schema that is not understood is refused with the tool, the place and what to do."""
    with pytest.raises(ValidationError) as caught:
        ToolSpec(name="find", parameters={"type": "object", "properties": {"x": {}}})
    assert "parameters of tool 'find': $.properties.x: any value at all is too much" in str(caught.value)


@pytest.mark.parametrize("schema", [{"\ud800": 1}, {"anyOf": [{"$ref": "\ud800"}]}])
def test_half_a_character_in_parameters_is_refused_like_the_rest(schema):
    """A key or a reference that no text can hold is named as an escape; it once broke the refusal itself."""
    with pytest.raises(ValidationError, match=r"parameters of tool 'Search': \$.*\\ud800"):
        ToolSpec(name="Search", parameters={"type": "object", **schema})


def test_parameters_of_all_tools_are_bounded():
    """What many tools take together, in many steps, must stay within what compiles quickly."""
    properties = [{f"p{n}x{k}": {"type": "string", "maxLength": n} for k in range(10)} for n in range(64)]
    tools = [
        ToolSpec(name=f"T{n}", parameters={"type": "object", "properties": some})
        for n, some in enumerate(properties)
    ]
    assert PlannerInput(task="x", tools=tools, max_steps=8)
    assert "over the limit of 8192; offer fewer tools with parameters" in refusal(tools=tools, max_steps=16)
    many = [ToolSpec(name=f"T{n}", parameters=PARAMETERS) for n in range(MAX_TOOLS)]
    assert PlannerInput(task="x", tools=many, max_steps=32), "equal parameters count once"


@pytest.mark.parametrize(
    ("name", "given"),
    [("tools", [1] * 300), ("feedback", [1] * 30), ("evidence", {f"#E{n}": 1 for n in range(1, 40)})],
)
def test_too_many_are_refused_unread(name, given):
    """One error, not one an entry: a body of a million wrong ones would block all other requests."""
    with pytest.raises(ValidationError) as caught:
        PlannerInput(**{"task": "x", "tools": [ToolSpec(name="A")], name: given})
    (error,) = caught.value.errors()
    assert (error["type"], error["loc"], error["ctx"]["actual_length"]) == ("too_long", (name,), len(given))


def test_evidence_continues_the_numbering():
    """With two results known, in whatever order they came, planning starts at #E3."""
    request = PlannerInput(task="x", tools=[SEARCH], evidence={"#E2": "b", "#E1": "a"})
    assert (list(request.evidence), request.first_step) == (["#E1", "#E2"], 3)


def test_request_is_a_value():
    """Requests cannot be changed, and survive JSON."""
    request = PlannerInput(task="x", tools=[SEARCH], feedback=["step #E1 refers to itself"])
    with pytest.raises(ValidationError, match="frozen"):
        request.task = "y"
    assert PlannerInput.model_validate_json(request.model_dump_json()) == request
