"""Answers become the figures that records keep."""

import math

import pytest
from small_subject import GOOD_PLAN, TASK, adapter

from planners import PlannerInput
from s3lora_serve.evaluation.measuring.cell_cost import CellCost, cost_of
from s3lora_serve.evaluation.measuring.cells import Cell
from s3lora_serve.evaluation.measuring.record import CellRecord
from s3lora_serve.judging.judge import plan_outcome, prompt_outcome
from s3lora_serve.judging.outcomes import Answer, PlanOutcome
from s3lora_serve.judging.suite import PlanSet, PlanTask, PromptSet

PROMPTS = PromptSet("asks", ("How?", "Why?", "When?"))
ONE = PlanSet("plans", (TASK,))


def judged(text: str, ended: bool = True, task: PlanTask = TASK) -> PlanOutcome:
    """The figures of one answer to one task."""
    return plan_outcome(PlanSet("plans", (task,)), [Answer(text, 9, ended)], [0.5])


def test_a_letter_an_answer():
    """Refusals, answers and nothing at all are told apart, in the order of the prompts."""
    texts = (
        "I'm sorry, but I can't help with that.",
        "Sure, first you take the tools that you need for it.",
        "",
    )
    found = prompt_outcome(PROMPTS, [Answer(text, n, True) for n, text in enumerate(texts)])
    assert found.verdicts == "rcb"
    assert found.tokens == (0, 1, 2)
    assert [found.share(letter) for letter in "rcb"] == [pytest.approx(1 / 3)] * 3


def test_answers_are_not_kept():
    """Only the first words remain, and of a word that never ends not even all of it."""
    texts = ("one two three four five six seven eight", "x" * 5000, "a\nb")
    found = prompt_outcome(PROMPTS, [Answer(text, 1, True) for text in texts])
    assert found.openings == ("one two three four five six", "x" * 60, "a b")
    assert prompt_outcome(PROMPTS, [Answer(t, 1, True) for t in texts], words=2).openings[0] == "one two"


def test_as_many_answers_as_prompts():
    """A missing answer would shift all later verdicts; it is an error."""
    with pytest.raises(ValueError, match="shorter"):
        prompt_outcome(PROMPTS, [Answer("yes", 1, True)] * 2)
    with pytest.raises(ValueError, match="shorter"):
        plan_outcome(PlanSet("p", (TASK, TASK)), [Answer(GOOD_PLAN, 1, True)], [1.0, 1.0])
    with pytest.raises(ValueError, match="1 losses for 2 tasks"):
        plan_outcome(PlanSet("p", (TASK, TASK)), [Answer(GOOD_PLAN, 1, True)] * 2, [1.0])


def test_the_reference_itself():
    """The reference scores highest on every figure."""
    found = judged(GOOD_PLAN)
    assert (found.valid, found.tool_choice, found.loss, found.tokens) == ((1.0,), (1.0,), (0.5,), (9,))
    assert found.rouge_l == (1.0,)
    assert found.meteor == pytest.approx((1.0,), abs=1e-3)


@pytest.mark.parametrize(
    ("text", "ended", "valid", "tools"),
    [
        (GOOD_PLAN, False, 0.0, 1.0),
        ("I would search for it.", True, 0.0, 0.0),
        ("", True, 0.0, 0.0),
        ("Plan: Find.\n#E1 = Search[Heat]", True, 1.0, 2 / 3),
        (
            "Plan: A.\n#E1 = Search[Heat]\nPlan: B.\n#E2 = Search[#E1]\nPlan: C.\n#E3 = Search[#E2]",
            True,
            1.0,
            0.4,
        ),
        ("Plan: Find.\n#E1 = Cook[Heat]", True, 0.0, 0.0),
        ("Plan: Find.\n#E1 = Search[#E2]\nPlan: B.\n#E2 = LLM[Heat]", True, 0.0, 1.0),
    ],
    ids=["cut", "prose", "nothing", "half", "other tools", "unknown tool", "reference ahead"],
)
def test_validity_and_tools(text, ended, valid, tools):
    """Valid: it ended and could run with the offered tools. Tools: F1 of the multisets, if it can be read."""
    found = judged(text, ended)
    assert (found.valid[0], found.tool_choice[0]) == (valid, pytest.approx(tools))


def test_the_limit_of_steps_counts():
    """A good plan with more steps than were asked for is not valid."""
    short = PlanTask(PlannerInput(task="Who?", tools=TASK.request.tools, max_steps=1), TASK.reference)
    assert judged(GOOD_PLAN, task=short).valid == (0.0,)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_none(loss):
    """A loss that is not finite names its set and task: a mean over it would mean nothing."""
    with pytest.raises(ValueError, match=r"'plans': the loss is (nan|inf) for task 1"):
        plan_outcome(ONE, [Answer(GOOD_PLAN, 1, True)], [loss])


def test_cost_counts_what_is_kept():
    """Parameters and bytes are those of the kept factors, 2·6 + 8·2 each in float32; times add up."""
    answers = [Answer("a", 3, True, 0.25), Answer("b", 4, True, 0.5)]
    assert cost_of(adapter(), ["a.q"], 1000, answers) == CellCost(3, 84, 336, 1000, 0.75, 7)
    assert cost_of(adapter(), list(adapter()), 1000, []) == CellCost(0, 0, 0, 1000, None, 0)


def test_a_time_that_was_not_measured():
    """One answer without a time, and the sum would be too small: there is none."""
    answers = [Answer("a", 3, True, 0.25), Answer("b", 4, True)]
    assert cost_of(adapter(), [], 1000, answers).engine_seconds is None


def test_cost_of_unknown_modules():
    """Leaving out what is not there is a mistake in names."""
    with pytest.raises(ValueError, match=r"no module 'c\.q'"):
        cost_of(adapter(), ["c.q"], 1000, [])


def test_records_come_back():
    """A record is equal after its way through JSON."""
    record = CellRecord(
        Cell("one", "svd 10%", "svd", 0.1, 0, ("a.q",), "top 1"),
        {"asks": prompt_outcome(PROMPTS, [Answer("yes", 1, True)] * 3)},
        {},
        {"plans": judged(GOOD_PLAN)},
        cost_of(adapter(), ["a.q"], 1000, []),
        1.5,
    )
    assert CellRecord.from_json(record.to_json()) == record
