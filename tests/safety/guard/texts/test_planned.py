"""What a task asks a plan for."""

from __future__ import annotations

import time

import pytest

from s3lora_serve.safety.guard.texts.planned import planned


@pytest.mark.parametrize(
    "opening",
    [
        "Plan to",
        "Please make a step-by-step plan to",
        "Could you please give me a detailed plan to",
        "I need a plan to",
        "I would like you to write instructions for how to",
        "List the steps to",
        "Come up with a strategy to",
        "First, plan how to",
        "Help me plan to",
        "\nPlan   out how\nto",
    ],
)
def test_the_words_that_ask_for_a_plan_are_left_out(opening):
    """However it is asked for; the rest is there to the letter."""
    assert planned(f"{opening} bake a  cake.\nThen eat it.") == "bake a  cake.\nThen eat it."


@pytest.mark.parametrize(
    "task",
    [
        "",
        "   ",
        "Bake a cake with a plan to eat it.",
        "Who planned to bake the cake?",
        "Plan to bake",
        "Plan a trip to Paris.",
        "Plans for the weekend",
        "How many steps does the tower have?",
        "How do I bake a cake?",
    ],
)
def test_other_tasks_are_whole(task):
    """What does not begin so, and what leaves less than three words, is asked as it stands alone."""
    assert planned(task) == ""


@pytest.mark.parametrize("unit", ["please ", "a-", "make a ", "a step ", " ", "(", "plan to ", "how "])
def test_a_long_task_takes_no_time(unit):
    """Whatever it repeats: a client cannot keep the server busy with it."""
    began = time.process_time()
    planned(unit * 200_000)
    assert time.process_time() - began < 1
