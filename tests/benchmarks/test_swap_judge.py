"""The judge of benchmarks/swap sees what it is there to see: a table of zeros is worth no more than it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "swap" / "answers.py"
SPEC = importlib.util.spec_from_file_location("benchmarks_swap_answers", FILE)
answers = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = answers  # dataclasses look their module up
SPEC.loader.exec_module(answers)

# Words of two revisions of alpha, one of beta, and one for weights of r01 over a cache of r00.
WORDS = SimpleNamespace(
    meaning={"zero": (0, 0), "one": (1, 1), "seven": (7, 7), "cached": (1, 0)},
)


def verdict(text, possible=frozenset({0}), leased=None, planner="alpha", **more):
    """The judge's word on one answer."""
    answer = answers.Answer("client", planner, "swaps", 0.0, 1.0, **{"status": 200, "text": text, **more})
    return answers.judge(answer, WORDS, set(possible), leased)


def test_an_answer_of_the_revision_that_serves_is_right():
    """One revision's word throughout, that revision possible and leased: nothing is wrong."""
    assert verdict(" zero zero zero", leased=0) == "ok"


@pytest.mark.parametrize(
    "bad", [{"status": 503}, {"error": "connection reset"}, {"text": " "}, {"status": 0}], ids=str
)
def test_what_is_no_whole_answer_has_failed(bad):
    """Another status than 200, an error in the stream and an empty text are failures, whatever words came."""
    text = bad.pop("text", " zero zero")
    assert verdict(text, **bad) == "failed"


def test_two_revisions_in_one_answer_are_mixed_even_if_both_might_answer():
    """A request that runs during a swap may be answered by either revision, not by both."""
    assert verdict(" zero zero one one", possible={0, 1}) == "mixed"


def test_a_cache_that_other_weights_filled_is_mixed():
    """One token that read another revision's KV cache is enough."""
    assert verdict(" cached one one one", possible={1}) == "mixed"


def test_a_revision_that_no_longer_serves_is_stale():
    """The old revision's words in an answer that began after the server confirmed the new one."""
    assert verdict(" zero zero", possible={1}) == "stale"


def test_another_revision_than_the_leased_one_is_stale():
    """What the server says it leased binds it, even while the other revision may answer, too."""
    assert verdict(" zero zero", possible={0, 1}, leased=1) == "stale"
    assert verdict(" zero zero", possible={0, 1}, leased=-1) == "stale"  # a digest that was not asked for


def test_words_of_nobody_and_of_another_planner_are_foreign():
    """Neither ordinary words nor those of another planner's adapter may come out of this one."""
    assert verdict(" zero something") == "foreign"
    assert verdict(" seven seven") == "foreign"


def test_the_base_model_may_say_one_tell_tale_word_but_not_two_in_a_row():
    """An adapter under a request for the base model repeats itself; chance does not."""
    assert verdict("zero is a number", planner=None) == "ok"
    assert verdict("zero zero zero", planner=None) == "foreign"


def test_from_the_order_until_the_confirmation_either_revision_may_answer():
    """The timeline allows what the caller of a swap can know, and no more."""
    timeline = answers.Timeline()
    timeline.flipped(timeline.ordered(0, 0.0), 1.0)
    span = timeline.ordered(1, 10.0)
    assert timeline.possible(5.0, 9.0) == {0}
    assert timeline.possible(5.0, 11.0) == {0, 1}  # still running when the swap was ordered
    timeline.flipped(span, 12.0)
    assert timeline.possible(11.0, 13.0) == {0, 1}
    assert timeline.possible(12.5, 13.0) == {1}


def test_after_a_swap_that_was_refused_only_what_served_may_answer():
    """A server that says a swap failed must go on with the revision before."""
    timeline = answers.Timeline()
    timeline.flipped(timeline.ordered(0, 0.0), 1.0)
    timeline.refused(timeline.ordered(1, 10.0), 12.0)
    assert timeline.possible(11.0, 13.0) == {0, 1}
    assert timeline.possible(12.5, 13.0) == {0}


def test_going_back_to_a_revision_makes_it_possible_again():
    """A rollback's revision is judged by its new span, not by the one that ended."""
    timeline = answers.Timeline()
    timeline.flipped(timeline.ordered(0, 0.0), 1.0)
    timeline.flipped(timeline.ordered(1, 10.0), 11.0)
    timeline.flipped(timeline.ordered(0, 20.0), 21.0)
    assert timeline.possible(12.0, 13.0) == {1}
    assert timeline.possible(22.0, 23.0) == {0}
