"""ROUGE-L and METEOR: how much of a reference's words a text has, in its order."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from s3lora_serve.errors import ConfigError

_WORD = re.compile(r"[^\W_]+")


class _NoSynonyms:
    """In place of WordNet, which is a download: METEOR then matches equal words and equal stems."""

    def synsets(self, word: str) -> list[Any]:
        return []


def rouge_l(reference: str, text: str) -> float:
    """F-measure of the longest common subsequence of stemmed words, 0..1 (Lin, 2004; rouge_score).

    Raises ConfigError unless the ``evaluate`` extra is installed.
    """
    return float(_scorer().score(reference, text)["rougeL"].fmeasure)


def meteor(reference: str, text: str) -> float:
    """METEOR of the exact and the stem stage, 0..1 (Banerjee & Lavie, 2005; nltk), on lower-case words.

    Equal texts score just below 1, as they do everywhere: one chunk is still a chunk.
    Raises ConfigError unless the ``evaluate`` extra is installed.
    """
    words = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    if not words[0] or not words[1]:
        return 0.0
    return float(_meteor()(words[1], words[0], wordnet=_NoSynonyms()))


@cache
def _scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing("rouge-score") from error
    return RougeScorer(["rougeL"], use_stemmer=True)


@cache
def _meteor() -> Any:
    try:
        from nltk.translate.meteor_score import single_meteor_score  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing("nltk") from error
    return single_meteor_score


def _missing(package: str) -> ConfigError:
    return ConfigError(
        f"comparing plans with references needs {package}, which is not installed",
        hint='pip install "s3lora-serve[evaluate]"',
    )
