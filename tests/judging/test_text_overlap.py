"""ROUGE-L and METEOR as their papers define them, with nothing downloaded."""

import sys

import pytest

from s3lora_serve.errors import ConfigError
from s3lora_serve.judging import text_overlap
from s3lora_serve.judging.text_overlap import meteor, rouge_l


def test_rouge_l_counts_the_longest_common_subsequence():
    """Lin's example: "police kill the gunman" shares "police the gunman" with the reference; F is 3/4."""
    assert rouge_l("police killed the gunman", "police end the gunman") == pytest.approx(0.75)
    assert rouge_l("police killed the gunman", "the gunman end police") == pytest.approx(0.5)


def test_rouge_l_stems():
    """Inflections of a word are the same word."""
    assert rouge_l("searching films", "searches film") == pytest.approx(1.0)


def test_meteor_by_hand():
    """One chunk of 3 of 4 words: F = 10PR/(R + 9P) = 3/4, less a penalty of 0.5·(1/3)³."""
    assert meteor("find the first director", "find the first film") == pytest.approx(0.75 * (1 - 0.5 / 27))


def test_meteor_stems_and_ignores_case():
    """Stems match after exact words, whatever their case."""
    assert meteor("Searching films", "searches FILM") == pytest.approx(1 - 0.5 / 8)


@pytest.mark.parametrize("measure", [rouge_l, meteor])
def test_bounds(measure):
    """Nothing in common and nothing at all are 0; equal texts are (almost) 1."""
    text = "Plan: Find who directed it. #E1 = Search[director of Heat]"
    assert measure(text, "xyz") == 0.0
    assert measure(text, "") == 0.0
    assert measure(text, text) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(
    ("call", "module"), [(rouge_l, "rouge_score.rouge_scorer"), (meteor, "nltk.translate.meteor_score")]
)
def test_a_missing_library_is_named(monkeypatch, call, module):
    """Without the extra, the error says what to install."""
    monkeypatch.setitem(sys.modules, module, None)
    text_overlap._scorer.cache_clear()
    text_overlap._meteor.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install .*evaluate"):
        call("a text", "a text")
