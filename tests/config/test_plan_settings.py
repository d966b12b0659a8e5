"""Settings of what requests for plans may ask for, and of the tools that planners have of their own."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from planners import tools
from s3lora_serve.config import load_config
from s3lora_serve.errors import ConfigError
from s3lora_serve.launch.resolve import to_desired, tool_problems
from training.offers import varied

GOOD = "base_model: org/model\nplanners:\n  math:\n    source: hf://org/math@v1\n"
TOOLS = GOOD + "    tools:\n"


@pytest.fixture
def load(tmp_path):
    """Load this text as the commands do."""

    def _load(text: str):
        path = tmp_path / "planners.yaml"
        path.write_text(text)
        return load_config(path, tool_problems)

    return _load


def problems(load, text):
    """The lines of the one error that the text is refused with."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    return [line.strip() for line in caught.value.message.splitlines()[1:]]


def test_a_planner_without_tools_has_none(load):
    """Its requests must name theirs."""
    assert to_desired(load(GOOD))["math"].tools == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plans: {max_tools: 0}\n", "line 5, plans.max_tools: should be greater than or equal to 1, not 0"),
        (
            "plans: {max_tools: 257}\n",
            "line 5, plans.max_tools: should be less than or equal to 256, not 257",
        ),
        ("plans: {max_steps: 33}\n", "line 5, plans.max_steps: should be less than or equal to 32, not 33"),
        ("plans: {max_text: 15}\n", "line 5, plans.max_text: should be greater than or equal to 16, not 15"),
        ("plans: {seconds: 0}\n", "line 5, plans.seconds: should be greater than 0, not 0"),
        ("plans: {second: 1}\n", "line 5, plans.second: unknown key; did you mean seconds?"),
        ("max_tools: 3\n", "line 5, max_tools: unknown key here; did you mean plans.max_tools?"),
        ("server: {max_n: 0}\n", "line 5, server.max_n: should be greater than or equal to 1, not 0"),
        (
            "server: {max_concurrent: many}\n",
            "line 5, server.max_concurrent: should be a valid integer, not 'many'",
        ),
    ],
)
def test_a_limit_that_cannot_be_is_refused(load, text, expected):
    """Line, path, value and what is allowed."""
    assert problems(load, GOOD + text) == [expected]


def test_a_planners_tools_are_what_it_plans_with(load):
    """Name, description and JSON arguments become the tools of the contract, in the order of the file."""
    config = load(
        TOOLS
        + "      - {name: Search, description: ' finds facts '}\n"
        + "      - name: weather\n"
        + "        parameters: {type: object, properties: {place: {type: string}}, required: [place]}\n"
    )
    search, weather = to_desired(config)["math"].tools
    assert (search, weather.name) == (tools.ToolSpec(name="Search", description="finds facts"), "weather")
    assert weather.parameters["required"] == ["place"]


def test_tools_do_not_change_the_declaration(load):
    """Other tools are no other adapter: nothing is admitted again for them."""
    with_tools = load(TOOLS + "      - {name: Search}\n")
    assert to_desired(load(GOOD))["math"].declared == to_desired(with_tools)["math"].declared


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "      - {name: Search}\n      - {name: web search}\n",
            "line 7, planners.math.tools.1.name: tool name 'web search': use 1 to 128 letters, digits, '_',"
            " '-' and '.', beginning with a letter, a digit or '_', such as 'web_search'",
        ),
        (
            "      - {name: A}\n      - {name: B}\n      - {name: A}\n",
            "line 8, planners.math.tools.2.name: tool 'A' is given twice; give each tool its own name",
        ),
        (
            f"      - name: A\n        description: {'x' * 1025}\n",
            "line 7, planners.math.tools.0.description: String should have at most 1024 characters",
        ),
        ("      - {nam: A}\n", "line 6, planners.math.tools.0.nam: unknown key; did you mean name?"),
        ("      - A\n", "line 6, planners.math.tools.0: should be a mapping, not 'A'"),
        ("      - {name: 7}\n", "line 6, planners.math.tools.0.name: should be text, in quotes if YAML"),
    ],
)
def test_a_tool_that_no_plan_can_use_is_refused_at_the_start(load, text, expected):
    """Line and place in the list, in the words in which a request would be refused."""
    found = problems(load, TOOLS + text)
    assert [line[: len(expected)] for line in found if "tools.0.name: is required" not in line] == [expected]


def test_a_schema_that_is_not_understood_is_refused_at_the_start(load):
    """A tool's arguments are checked at startup, and the place in the schema is named."""
    (problem,) = problems(load, TOOLS + "      - {name: A, parameters: {type: array}}\n")
    assert problem.startswith("line 6, planners.math.tools.0.parameters: parameters of tool 'A': ")


def test_more_tools_than_a_request_may_offer_are_refused(load):
    """A planner's own tools are within the limit that requests have."""
    text = TOOLS + "".join(f"      - {{name: T{i}}}\n" for i in range(3)) + "plans: {max_tools: 2}\n"
    assert problems(load, text) == ["planner 'math' has 3 tools, over plans.max_tools 2"]


def test_the_demo_planners_have_the_tools_that_they_were_trained_with():
    """Each name with its description is an offer of the training's, for the data of that planner."""
    config = load_config(Path(__file__).parents[2] / "configs" / "planners.yaml", tool_problems)
    own = to_desired(config)
    assert {name: [tool.name for tool in planner.tools] for name, planner in own.items()} == {
        "hotpot-planner": ["Wikipedia", "LLM"],
        "gsm8k-planner": ["Calculator"],
    }
    for name, planner in own.items():
        offers = (varied(name.removesuffix("-planner"), Random(seed)) for seed in range(2000))
        assert set(planner.tools) <= {tool for offer in offers for tool in offer.tools}


def test_tools_too_large_to_plan_with_are_refused_at_the_start(load):
    """Tools whose arguments would not fit a request of the usual length are told now, not to every client."""
    fields = ", ".join(f"p{i}: {{type: string}}" for i in range(30))
    tool = "      - {{name: T{}, parameters: {{type: object, properties: {{q{}: {{type: string}}, {}}}}}}}\n"
    text = TOOLS + "".join(tool.format(i, i, fields) for i in range(40))
    (problem,) = problems(load, text)
    assert problem.startswith("line 5, planners.math.tools: the parameters of the tools, in 8 steps,")
    load(text + "plans: {max_steps: 4}\n")


def test_tools_whose_arguments_no_step_could_hold_are_refused_at_the_start(load):
    """As requests would be, for texts as long as the settings allow."""
    nested = "{type: array, items: {type: array, items: {type: array, items: {type: string}}}}"
    tool = f"      - {{name: Deep, parameters: {{type: object, properties: {{a: {nested}}}}}}}\n"
    (problem,) = problems(load, TOOLS + tool)
    assert problem.startswith("line 5, planners.math.tools: the arguments of tool 'Deep' may be")
    assert load(TOOLS + tool + "plans:\n  max_text: 16\n").planners["math"].tools[0].name == "Deep"
