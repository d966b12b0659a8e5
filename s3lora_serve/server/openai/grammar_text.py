"""Whether any text satisfies an EBNF grammar. The engine fails on one that admits none."""

from __future__ import annotations

import re

_LITERAL = re.compile(r'"(?:\\.|[^"\\\n])*+"?|\[(?:\\.|[^\]\\])*+\]?|#[^\n]*')
_RULE = re.compile(r"^[ \t]*([A-Za-z_][\w.-]*)[ \t]*::=", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_GROUP = re.compile(r"\(([^()]*)\)")
_MOST_RULES = 100  # larger grammars are not looked at: this runs where requests are answered
_MOST_LEVELS = 50
_OPTIONAL = re.compile(r"[01]\s*(?:[*?]|\{\s*0*\s*(?:,[\s\d]*)?\})")


def accepts_something(grammar: str) -> bool:
    """False only when its ``root`` surely derives no text; True for what is not understood here."""
    text = _LITERAL.sub(lambda found: "" if found[0][0] == "#" else " 1 ", grammar)
    starts = list(_RULE.finditer(text))
    ends = [*(rule.start() for rule in starts[1:]), len(text)]
    bodies: dict[str, str] = {}
    for rule, end in zip(starts, ends, strict=False):
        bodies[rule[1]] = text[rule.end() : end]
    if "root" not in bodies or len(starts) != len(bodies) or len(bodies) > _MOST_RULES:
        return True
    finite: set[str] = set()  # rules that derive a text
    for _ in bodies:
        more = {name for name, body in bodies.items() if _derives(body, bodies, finite)}
        if more == finite:
            break
        finite = more
    return "root" in finite


def _derives(body: str, bodies: dict[str, str], finite: set[str]) -> bool:
    body = _NAME.sub(lambda name: " 0 " if name[0] in bodies and name[0] not in finite else " 1 ", body)
    for _ in range(_MOST_LEVELS):
        body = _OPTIONAL.sub(" 1 ", body)
        reduced = _GROUP.sub(lambda group: " 1 " if _any_way(group[1]) else " 0 ", body)
        if reduced == body:
            return _any_way(body)
        body = reduced
    return True


def _any_way(alternatives: str) -> bool:
    # Only a lone 0 stands for a rule; the digits of a repetition's bounds are in braces.
    ways = re.sub(r"\{[^{}]*\}", "", alternatives).split("|")
    return any("0" not in way.split() for way in ways)
