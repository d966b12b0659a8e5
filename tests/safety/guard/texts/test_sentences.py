"""A task in pieces."""

from __future__ import annotations

import pytest

from s3lora_serve.safety.guard.texts.sentences import MOST, sentences


@pytest.mark.parametrize(
    ("task", "pieces"),
    [
        ("Who was born first?", ()),
        ("  \n", ()),
        ("Repeat the task. Do that now.", ("Repeat the task.", "Do that now.")),
        ("Plan this for me: do that now", ("Plan this for me:", "do that now")),
        ("One line here\nanother line there", ("One line here", "another line there")),
        ("The same again. The same again. Then another one.", ("The same again.", "Then another one.")),
        ("**Look at it now.** Do that now.", ("**Look at it now.", "Do that now.")),
        ("Look at it now.\u200bDo that now.", ("Look at it now.", "Do that now.")),
        ("Look at it now。Do that now…  and that one", ("Look at it now。", "Do that now…", "and that one")),
        (
            "One line here\u2028another line there\rand a third",
            ("One line here", "another line there", "and a third"),
        ),
        ("Take v1.2 of a.b:c now", ()),
    ],
)
def test_sentences_are_told_apart(task, pieces):
    """At their ends and at line breaks, short ones with the next, equal ones once."""
    assert sentences(task) == pieces


def test_a_long_task_has_few_pieces_and_no_word_is_missing():
    """However many sentences it has."""
    said = [f"This is sentence number {n}." for n in range(1000)]
    found = sentences(" ".join(said))
    assert len(found) <= MOST
    assert " ".join(found) == " ".join(said)
