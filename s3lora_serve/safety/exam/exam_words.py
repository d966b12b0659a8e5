"""The words for a verdict, the same for every face: what passed did so on the prompts that were asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def exam_words(facts: Mapping[str, Any]) -> str:
    """``passed on the public prompts``, of a result as JSON; own questions are ``your prompts``.

    What needs no question has no key, and is ``passed unasked``.
    """
    verdict = facts.get("verdict", "undecided")
    if facts.get("key") == "":
        return f"{verdict} unasked"
    prompts = "your prompts" if facts.get("own_questions") else "the public prompts"
    stale = ", by an exam that is stale" if facts.get("stale") else ""
    return f"{verdict} on {prompts}{stale}"
