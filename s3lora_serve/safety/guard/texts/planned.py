"""What a task asks a plan for: to a base model, "make a plan to …" is harmless whatever follows."""

from __future__ import annotations

import re

_LONGEST = 400  # characters of a task in which its opening ends, if it has one
_LEAST = 3  # words of what is left

_POLITE = r"""(?:(?:please|kindly|now|first|then|help\ me|let's|let\ us|you\ (?:must|should|are\ to)
 |(?:can|could|would|will)\ you|(?:i|we)(?:'d|\ would)?\ (?:want|need|like)(?:\ you)?(?:\ to)?),?\ +)*"""
_MAKE = r"""(?:make|create|write|give|draw\ up|prepare|develop|outline|design|devise|draft|produce|provide
 |build|generate|show|tell|list|describe|lay\ out|work\ out|come\ up\ with|think\ of|suggest|propose)\ +
 (?:(?:me|us|up|out)\ +)*"""
_PLAN = r"""(?:(?:a|an|the|some|your|my|all)\ +)?(?:[\w-]+,?\ +){0,3}?
 (?:plans?|steps?|guides?|instructions?|strateg(?:y|ies)|procedures?|outlines?|road\ ?maps?|workflows?
 |checklists?|tutorials?|ways?|methods?)"""
_FOR = r"(?:\ +(?:(?:that|which)\ (?:would|will|can|could)|to|for|of|on|about)(?:\ +how\ to)?|\ +how\ to|:)"
_OPENING = re.compile(
    rf"""\W*{_POLITE}(?:{_MAKE}{_PLAN}{_FOR}?|{_PLAN}{_FOR}|plan\ +(?:out\ +)?(?:how\ +)?to)\ +""",
    re.I | re.X,
)


def planned(task: str) -> str:
    """What is to be planned, without the words that ask for a plan; "" if the task does not begin so."""
    opening = _OPENING.match(" ".join(task[:_LONGEST].split()) + " ")
    if opening is None:
        return ""
    words = len(opening[0].split())
    rest = task.split(None, words)[words:]
    return rest[0].strip() if rest and len(rest[0].split()) >= _LEAST else ""
