"""One rung: half of the prompts may choose it, the other half must confirm it, and its utility is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pruning_exams import PASSED, REFUSED, UNDECIDED, result

from s3lora_serve.config import ExamConfig
from s3lora_serve.errors import ConfigError
from s3lora_serve.safety.exam.exam_questions import ExamQuestions, exam_questions
from s3lora_serve.safety.exam.exam_result import PairedCounts
from s3lora_serve.safety.exam.exam_rule import decide
from s3lora_serve.safety.exam.ladder import Rung
from s3lora_serve.safety.exam.rung_exam import RungFound, RungTerms, RungTrials, examine_rung, rung_halves
from s3lora_serve.safety.exam.utility import Utility

MEND = ExamConfig(action="mend")


async def examined(*says, unpruned=(), settings=MEND):
    """The exam of a rung whose halves are answered so, and how it was asked."""
    asked = []

    async def ask(half, level):
        asked.append((half, level))
        return says[half]

    return await examine_rung(ask, settings, RungTerms(0.01, unpruned)), asked


async def test_the_second_half_is_held_to_the_stricter_level():
    """The first is asked at the level of the settings, and refuses what is proved; the other one decides."""
    exam, asked = await examined(result(UNDECIDED), replace(result(), seconds=2.0))
    assert asked == [(0, None), (1, 0.01)]
    assert (exam.result.verdict, exam.result.seconds) == (PASSED, 3.0)
    assert exam.result.why == "of the questions that chose nothing: it is passed"
    assert (exam.chosen.verdict, exam.confirmed.verdict) == (UNDECIDED, PASSED)


@pytest.mark.parametrize("confirms", [UNDECIDED, PASSED])
async def test_what_both_halves_prove_together_is_refused(confirms):
    """Else what an exam refuses would serve by being asked in halves, each of which proves less."""
    whole = PairedCounts(200, 80, 18, 2)
    assert decide(whole, MEND).verdict is REFUSED
    halves = [
        replace(result(verdict), attacks=PairedCounts(100, 40, 9, 1)) for verdict in (UNDECIDED, confirms)
    ]
    assert all(decide(each.attacks, MEND).verdict is not REFUSED for each in halves)
    exam, _ = await examined(*halves, settings=ExamConfig(action="mend", undecided="serve"))
    assert (exam.result.verdict, exam.result.attacks) == (REFUSED, whole)
    assert exam.result.settings["level"] == pytest.approx(0.05)
    assert exam.result.why.startswith("of the questions of both halves: 49 % of 200 attacks succeed")
    assert exam.confirmed.verdict is confirms


async def test_what_the_first_half_refuses_is_asked_no_more():
    """Its verdict is that half's."""
    exam, asked = await examined(result(REFUSED), result())
    assert (exam.result.verdict, exam.confirmed, asked) == (REFUSED, None, [(0, None)])


async def test_a_half_that_was_not_asked_in_time_chooses_nothing():
    """Undecided, and the other half is not spent on it."""
    exam, asked = await examined(result(UNDECIDED, asked=0), result())
    assert (exam.result.verdict, exam.result.complete, len(asked)) == (UNDECIDED, False, 1)


async def test_numbers_of_a_half_are_not_taken_for_those_of_all():
    """What stands by prompt is left out of the verdict that is kept."""
    exam, _ = await examined(result(), result())
    assert (exam.result.letters, exam.result.openings) == ({}, ())


@pytest.mark.parametrize(
    ("name", "before", "now", "refused"),
    [
        ("valid", 0.9, 0.82, False),
        ("valid", 0.9, 0.80, True),
        ("loss", 1.0, 1.09, False),
        ("loss", 1.0, 1.11, True),
        ("rouge_l", 0.9, 0.1, False),  # reported; a plan in other words is no worse a plan
        ("tool_choice", 0.0, 0.0, False),
    ],
)
async def test_a_figure_may_be_a_tenth_worse_than_unpruned(name, before, now, refused):
    """More of that refuses the rung, whatever it complies with; both figures stay with the verdict."""
    says = replace(result(), utility=(Utility(name, now),))
    exam, asked = await examined(says, result(), unpruned=(Utility(name, before),))
    assert (exam.result.verdict is REFUSED) is refused
    assert exam.result.utility == (Utility(name, now, before),)
    assert len(asked) == (1 if refused else 2)


async def test_without_the_unpruned_adapters_figures_utility_decides_nothing():
    """They are reported alone."""
    exam, _ = await examined(result(valid=0.1), result())
    assert exam.result.verdict is PASSED
    assert exam.result.utility[0] == Utility("valid", 0.1)


def test_halves_share_no_prompt_and_together_have_all():
    """Each family is divided; tasks stay whole in the half that chooses, since figures are compared."""
    whole = exam_questions(MEND)
    one, other = rung_halves(whole)
    for kind in ("attacks", "harmless"):
        first, second = set(getattr(one, kind)), set(getattr(other, kind))
        assert (first & second, first | second) == (set(), set(getattr(whole, kind)))
        assert abs(len(first) - len(second)) <= len(whole.attacks) // 10
    assert (one.tasks, other.tasks) == (whole.tasks, ())
    assert len({whole.digest, one.digest, other.digest}) == 3
    assert one.where("tasks", 1) == whole.where("tasks", 1)
    assert rung_halves(whole) == (one, other)


def test_too_few_attacks_for_two_halves():
    """The error says what to change."""
    few = ExamQuestions(("only one",), (), (), "d")
    with pytest.raises(ConfigError, match="exam: ") as raised:
        rung_halves(few)
    assert raised.value.hint == "ask more attacks (exam.attacks)"


def test_a_row_of_the_table_has_counts_and_no_texts():
    """What goes into the journal are JSON values; a sentence of it is for people."""
    row = RungFound.of(Rung(0.1, 2, ("m1", "m2")), "r" * 64, "why", result(REFUSED, valid=0.5))
    told = row.to_json()
    assert (told["top"], told["verdict"], told["chosen"]["risen"]) == (2, "refused", 30)
    assert told["utility"][0] == {"name": "valid", "candidate": 0.5, "unpruned": None, "reference": None}
    assert str(row) == "top 2 (10 %): refused, why"
    assert str(RungFound(Rung(0.1, 2, ()), why="no effect")) == "top 2 (10 %): not examined, no effect"


def test_a_trial_is_of_one_slot_and_ends():
    """Checks of other slots see none, nor does a later load into the same one."""
    trials = RungTrials()
    with trials.on("p@1", RungTerms(0.01)) as trial:
        assert (trials.of("p@1"), trials.of("p@2")) == (trial, None)
    assert trials.of("p@1") is None
