"""What is written down of a judged request."""

from __future__ import annotations

import pytest
from judged import judged, refused

from s3lora_serve.safety.guard.ruling import Found, Ruling
from s3lora_serve.safety.guard.verdicts.verdict_record import first_words, records_of

BASE_FAILED = Ruling(Found.FAILED, "base", why="no verdict within 30 s")
UNDECIDED = Ruling(Found.UNDECIDED, "endpoint", why="says neither")


@pytest.mark.parametrize(
    ("rulings", "settings", "done", "findings"),
    [
        ([refused()], {}, "withheld", ["refused"]),
        ([refused()], {"action": "observe"}, "served", ["refused"]),
        ([refused(part="evidence")], {"observe_parts": ["evidence"]}, "served", ["refused"]),
        ([BASE_FAILED], {}, "withheld", ["failed"]),
        ([BASE_FAILED], {"fail": "open"}, "open", ["failed"]),
        ([BASE_FAILED, UNDECIDED], {"action": "observe"}, "served", ["failed", "undecided"]),
        ([Ruling(Found.ALLOWED, "base"), UNDECIDED], {"fail": "open"}, "open", ["undecided"]),
        ([], {}, None, []),
    ],
)
def test_what_became_of_a_request(rulings, settings, done, findings):
    """Each judge that did not allow it has a record that says what was done; all judges are counted."""
    counts, records = records_of("p", judged(*rulings, **settings), 1000.0)
    assert [each.finding for each in records] == findings
    assert {each.done for each in records} == ({done} if done else set())
    assert len(counts) == max(len(rulings), 1)
    for each in records:
        assert (each.planner, each.caller, each.request_id, each.revision) == ("p", "ops", "r-1", "e" * 64)


def test_a_task_is_quoted_only_where_it_was_refused():
    """At most six words; a failure and an undecided one keep a digest alone, which tells requests apart."""
    _, (of_refused,) = records_of("p", judged(refused()), 0.0)
    _, (of_failed,) = records_of("p", judged(BASE_FAILED), 0.0)
    assert of_refused.words == "a task of more than six"
    assert (of_failed.words, of_failed.digest) == ("", of_refused.digest)
    _, (other,) = records_of("p", judged(refused(), task="another"), 0.0)
    assert other.digest != of_refused.digest


@pytest.mark.parametrize(
    ("task", "words"),
    [("x" * 500, "x" * 60), ("", ""), ("red \x1b[31m\n\tblue", "red \\x1b[31m blue"), ("\ud83d", "\\ud83d")],
)
def test_words_are_few_short_and_printable(task, words):
    """Nothing in them acts on a terminal, and a task of one endless word does not come whole."""
    assert first_words(task) == words
