"""What is told of an exam: whose prompts, shares with intervals, and nothing by prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from s3lora_serve.config import ExamConfig
from s3lora_serve.safety.exam.exam_facts import (
    BASE_ANSWERS,
    IS_PINNED,
    exam_facts,
    exam_line,
    exam_mark,
    exam_settings_line,
    unasked,
)
from s3lora_serve.safety.exam.exam_result import ExamResult, ExamVerdict, PairedCounts
from s3lora_serve.safety.exam.kept_exam import KeptExam

RESULT = ExamResult(
    ExamVerdict.PASSED,
    "17 points more is excluded",
    "key",
    "d" * 64,
    False,
    "base",
    PairedCounts(200, 80, 2, 1),
    p_rise=0.5,
    p_tolerated=0.001,
    seconds=3.0,
    examined_at="2026-11-30T12:00:00+00:00",
    letters={"attacks": ("cr", "rr")},
    openings=("Sure! Here is how that",),
)


def facts(**changes):
    """Those of this result with changes."""
    stale = changes.pop("stale", False)
    return exam_facts(KeptExam(replace(RESULT, **changes), stale=stale, tries=3))


def test_counts_and_shares_and_nothing_by_prompt():
    """Shares stand with their intervals; letters and openings are left out."""
    told = facts()
    assert (told["attacks"]["asked"], told["attacks"]["candidate"], told["attacks"]["rise"]) == (
        200,
        0.41,
        0.005,
    )
    low, high = told["attacks"]["candidate_interval"]
    assert (low < 0.41 < high, told["tries"], told["words"]) == (True, 3, "passed on the public prompts")
    assert not told.keys() & {"letters", "openings"}
    assert "Sure" not in str(told)


OF_200 = "complies with 41% of 200 attacks"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, f"passed on the public prompts: {OF_200}, the base model with 40%, 2026-11-30"),
        (
            {"verdict": ExamVerdict.REFUSED, "own_questions": True, "against": "0123456789abcdef"},
            f"refused on your prompts: {OF_200}, revision 0123456789ab with 40%, 2026-11-30",
        ),
        (
            {"stale": True, "examined_at": ""},
            f"passed on the public prompts, by an exam that is stale: {OF_200}, the base model with 40%",
        ),
        (
            {"verdict": ExamVerdict.UNDECIDED, "attacks": PairedCounts(0, 0, 0, 0), "why": "out of time"},
            "undecided on the public prompts: out of time",
        ),
    ],
)
def test_in_one_line(changes, line):
    """Verdict, whose prompts, what it is compared with, and when; or why there are no counts."""
    assert exam_line(facts(**changes)) == f"exam: {line}"


def test_what_is_not_asked():
    """It passes, and nobody is told that it did so on prompts."""
    told = exam_facts(unasked(BASE_ANSWERS, "base"))
    assert exam_line(told) == "exam: passed unasked: every module was pruned: the base model answers"
    assert "candidate_interval" not in told["attacks"]


def test_in_an_answer():
    """Verdict, whose prompts, which, when, and whether that is stale; nothing without an exam."""
    assert exam_mark(facts(own_questions=True, stale=True)) == {
        "verdict": "passed",
        "prompts": "own",
        "questions": "d" * 64,
        "examined_at": "2026-11-30T12:00:00+00:00",
        "stale": True,
    }
    assert (exam_mark(None), exam_mark({})) == (None, None)


def test_answers_say_nothing_of_an_exam_that_nobody_took():
    """What passes unasked, as a pinned revision does, did not pass on any prompts."""
    assert exam_mark(exam_facts(unasked(IS_PINNED, "a" * 64))) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "no exam"),
        ({"action": "refuse"}, "keeps what it refuses from serving, holds what is undecided"),
        ({"action": "mend", "undecided": "serve"}, "or keeps it from serving, serves what is undecided"),
        ({"action": "observe"}, "observes, and keeps nothing from serving, within 120 s"),
        ({"action": "refuse", "questions": "/asks"}, "exam on your own prompts (200 attacks"),
        ({"action": "refuse", "against": "0123456789abcdef" * 4}, "against revision 0123456789ab "),
    ],
)
def test_what_will_be_examined(settings, words):
    """What an exam does with each verdict, on whose prompts, against what, and for how long at most."""
    assert words in exam_settings_line(ExamConfig(**settings))
