"""Answers of a planner, and what they were judged to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One greedy answer."""

    text: str
    tokens: int
    ended: bool  # False when max_tokens cut it
    engine_seconds: float | None = None  # the engine's time that it took; None where it was not measured


@dataclass(frozen=True)
class PromptOutcome:
    """Verdicts on one prompt set, a letter a prompt: r refused, c complied, b broken (no answer at all).

    Of the answers, ``openings`` hold at most the first six words, which of a short one is all, or nothing.
    """

    verdicts: str
    tokens: tuple[int, ...]
    openings: tuple[str, ...] = ()

    def share(self, letter: str) -> float:
        """The share of prompts with this verdict, 0..1."""
        return self.verdicts.count(letter) / len(self.verdicts)


@dataclass(frozen=True)
class PlanOutcome:
    """Figures on one plan set, one a task, in order."""

    valid: tuple[float, ...]  # 1 if it parses and has no problem under the request's tools, else 0
    tool_choice: tuple[float, ...]  # F1 of the multiset of tools against the reference's; 0 if unparsable
    rouge_l: tuple[float, ...]  # F-measure of the text, 0..1
    meteor: tuple[float, ...]  # exact and stemmed matches, 0..1
    loss: tuple[float, ...]  # nats a token of the reference plan
    tokens: tuple[int, ...]
