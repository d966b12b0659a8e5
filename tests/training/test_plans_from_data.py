"""Training plans say only what could be known before any result."""

import json
import random
from fractions import Fraction

import pytest

from planners import PlannerInput, render_messages
from training import fireact, gsm8k
from training.arithmetic import evaluate
from training.example import to_plan
from training.offers import standard, unseen, varied

HEAT = "Where was the director of Heat born?"
BOTH = {"lookup": "Search", "language": "LLM"}


def run(*turns: tuple[str, str, str]) -> str:
    """A FireAct run of (thought, action, observation)."""
    return "".join(f"Thought: {t}\nAction: {a}\nObservation: {o}\n" for t, a, o in turns)


def plans(tmp_path, **runs: str) -> list[str]:
    """Plan texts of FireAct runs, by question."""
    rows = [{"instruction": task, "input": "", "output": text} for task, text in runs.items()]
    (tmp_path / "hotpotqa.json").write_text(json.dumps(rows))
    (tmp_path / "multitask.json").write_text(json.dumps(rows))
    return [to_plan(example, BOTH).to_rewoo() for example in fireact.load(tmp_path)]


TWO_HOPS = run(
    (
        "I need to search for the director of Heat.",
        "search[director of Heat]",
        "It was directed by Michael Mann in 1995.",
    ),
    (
        "Michael Mann directed it. Now I need to find where Michael Mann was born.",
        "search[Michael Mann birthplace]",
        "Chicago",
    ),
    ("I have the answer.", "finish[Chicago]", "Episode finished, reward = True"),
)


def test_observed_names_become_references(tmp_path):
    """A name from an observation is read out by a step and referred to, in input and thought."""
    assert plans(tmp_path, **{HEAT: TWO_HOPS}) == [
        "Plan: Search for the director of Heat.\n"
        "#E1 = Search[director of Heat]\n"
        "Plan: Read the answer from the result.\n"
        "#E2 = LLM[director of Heat? Given #E1]\n"
        "Plan: Search for the result of step 2 birthplace.\n"
        "#E3 = Search[#E2 birthplace]\n"
        "Plan: Answer the question from the results.\n"
        f"#E4 = LLM[{HEAT} Given #E2, #E3]"
    ]


def test_without_a_language_tool(tmp_path):
    """Where only a search tool is offered, the reading steps go and references point at the searches."""
    plans(tmp_path, **{HEAT: TWO_HOPS})
    (example,) = fireact.load(tmp_path)
    plan = to_plan(example, {"lookup": "Wikipedia"})
    assert [(s.id, s.tool, s.tool_input) for s in plan.steps] == [
        ("#E1", "Wikipedia", "director of Heat"),
        ("#E2", "Wikipedia", "#E1 birthplace"),
    ]


def test_retries_leave_one_search(tmp_path):
    """Of a failed search and its retry the retry stays, with the reason of the first."""
    (plan,) = plans(
        tmp_path,
        **{
            HEAT: run(
                (
                    "I need to find the birthplace of the director of Heat.",
                    "search[Heat]",
                    "A thermal phenomenon.",
                ),
                (
                    "That did not help. I'll try a different search.",
                    "search[Heat director birthplace]",
                    "Chicago",
                ),
                ("I have the answer.", "finish[Chicago]", "Episode finished, reward = True"),
            )
        },
    )
    assert plan.startswith(
        "Plan: Find the birthplace of the director of Heat.\n"
        "#E1 = Search[Heat director birthplace]\nPlan: Answer"
    )


def test_names_from_nowhere_leave_no_plan(tmp_path):
    """A run that searches for what neither question nor observation told is left out."""
    text = run(
        ("I need to search for Michael Mann.", "search[Michael Mann birthplace]", "Chicago"),
        ("Done.", "finish[Chicago]", "Episode finished, reward = True"),
    )
    assert plans(tmp_path, **{HEAT: text}) == []


def worked(question: str, answer: str, tmp_path) -> list[str]:
    """Plan texts of one GSM8K row."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": question, "answer": answer}) + "\n")
    return [to_plan(example, {"calculator": "Calculator"}).to_rewoo() for example in gsm8k.load(path)]


CLIPS = "Natalia sold clips to 48 friends in April, and half as many in May. How many altogether?"


MAY = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n"


def test_computed_numbers_become_references(tmp_path):
    """24 is not in the question, so the second step refers to the first; no thought tells a result."""
    answer = MAY + "She sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 72"
    assert worked(CLIPS, answer, tmp_path) == [
        "Plan: Natalia sold how many clips in May?\n#E1 = Calculator[48 / 2]\n"
        "Plan: She sold how many clips altogether?\n#E2 = Calculator[48 + #E1]"
    ]


@pytest.mark.parametrize(
    "answer",
    [
        MAY + "She sold 48+24 = <<48+24=72>>72 clips altogether.\n#### 73",
        MAY + "She sold 48+25 = <<48+25=73>>73 clips altogether.\n#### 73",
        MAY + "The 24 of May make 48+24 = <<48+24=72>>72 clips.\n#### 72",
    ],
    ids=["another answer", "number from nowhere", "thought tells a result"],
)
def test_unclean_answers_leave_no_plan(tmp_path, answer):
    """A plan that does not give the answer, invents a number or tells a result early is left out."""
    assert worked(CLIPS, answer, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "value"), [("(1 + 2) * 3 / 4", Fraction(9, 4)), ("-0.1 + 2", Fraction(19, 10))]
)
def test_arithmetic_is_exact(text, value):
    """Sums are exact fractions."""
    assert evaluate(text) == value


@pytest.mark.parametrize("text", ["", "2 **", "2 ** 9", "abs(1)", "True", "'a'", "__import__('os')"])
def test_only_arithmetic(text):
    """Anything but + - * / on numbers is refused, so model output can be evaluated."""
    with pytest.raises(ValueError, match=r"is no arithmetic|is not a number"):
        evaluate(text)


@pytest.mark.parametrize("data", ["hotpot", "gsm8k"])
def test_offers_fit_a_request(data):
    """Every tool list can be asked with, names a tool for each role, and unseen names are unseen."""
    rng = random.Random(0)
    drawn = [varied(data, rng) for _ in range(300)]
    for offer in [standard(data), unseen(data), *drawn]:
        names = {tool.name for tool in PlannerInput(task="x", tools=offer.tools).tools}
        assert set(offer.tool_of.values()) <= names
    seen = {tool.name for offer in drawn for tool in offer.tools}
    assert not seen & {tool.name for tool in unseen(data).tools}
    assert len({render_messages(PlannerInput(task="x", tools=o.tools))[1]["content"] for o in drawn}) > 100
