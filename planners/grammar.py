"""An EBNF grammar whose every sentence is a valid plan: one rule per step.

Step i may only name offered tools and only refer to #E1...#E(i-1): plans are acyclic, use known tools and
known evidence by construction. Text is bounded: decoding ends. For xgrammar, which vLLM decodes with.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from planners.tools import MAX_STEPS, MAX_TOOLS, TOOL_NAME, ToolSpec, tool_names

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_TEXT = 240  # characters of a thought or an input; a reference counts as one
_RUN = 60  # longest repetition written as one

# What ``str.strip`` removes may not stand first, or a text could be blank. "#" only starts references and
# brackets only delimit inputs, so neither can be text; control characters and line breaks never are. xgrammar
# works on bytes and would let surrogates through, which are no UTF-8. Written as what is allowed, since
# xgrammar before 0.2.4 (vLLM 0.26) cannot compile [^...] with anything beyond ASCII in it.
_WIDE = r"\u00a0-\u2027\u202a-\ud7ff\ue000-\U0010ffff"
_WIDE_VISIBLE = (
    r"\u00a1-\u167f\u1681-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff"
    r"\ue000-\ufefe\uff00-\U0010ffff"
)
_VISIBLE = rf"[\x21\x22\x24-\x5a\x5c\x5e-\x7e{_WIDE_VISIBLE}]"
_CHAR = rf"[\x20-\x22\x24-\x5a\x5c\x5e-\x7e{_WIDE}]"
_NOT_DIGIT = rf"[\x20-\x22\x24-\x2f\x3a-\x5a\x5c\x5e-\x7e{_WIDE}]"


def plan_grammar(
    tools: Sequence[ToolSpec | str], max_steps: int, *, first: int = 1, max_text: int = MAX_TEXT
) -> str:
    """Grammar of every plan of 1 to ``max_steps`` steps over ``tools``, numbered from ``#E{first}``.

    ``first`` > 1 continues a plan whose results #E1...#E(first-1) are known (``PlannerInput.first_step``).
    The order of ``tools`` does not matter: equal sets give equal text, which the engine has compiled already.
    Raises ValueError for no tools, unusable names, or numbers out of range.
    """
    names = tool_names(tools)
    for name in names:
        if not TOOL_NAME.fullmatch(name):  # a quote in a name would change the grammar
            raise ValueError(
                f"tool name {name!r}: use 1 to 64 letters, digits and '_', not starting with a digit"
            )
    if not 1 <= len(names) <= MAX_TOOLS:
        raise ValueError(f"{len(names)} tools: offer 1 to {MAX_TOOLS}")
    if not 1 <= max_steps <= MAX_STEPS:
        raise ValueError(f"max_steps {max_steps}: use 1 to {MAX_STEPS}")
    if not 1 <= first <= MAX_STEPS + 1:
        raise ValueError(f"first {first}: use 1 to {MAX_STEPS + 1}")
    if max_text < 2:
        raise ValueError(f"max_text {max_text}: use at least 2")
    return _grammar(names, max_steps, first, max_text)


@lru_cache(maxsize=256)
def _grammar(names: tuple[str, ...], max_steps: int, first: int, max_text: int) -> str:
    last = first + max_steps - 1
    rules = [
        f"root ::= s{first}",
        f"tool ::= {' | '.join(_quote(name) for name in names)}",
        f"visible ::= {_VISIBLE}",
        f"char ::= {_CHAR}",
        f"notdigit ::= {_NOT_DIGIT}",
        f"text ::= visible {_up_to('char', max_text - 1)}",
    ]
    for i in range(first, last + 1):
        rules.extend(_input_rules(i, max_text))
        more = f' ("\\n" s{i + 1})?' if i < last else ""
        rules.append(f's{i} ::= "Plan: " text "\\n#E{i} = " tool "[" in{i} "]"{more}')
    return "\n".join(rules) + "\n"


def _input_rules(i: int, max_text: int) -> list[str]:
    if i == 1:
        return ["in1 ::= text"]
    known = " | ".join(_quote(f"#E{n}") for n in range(1, i))
    # A digit right after "#E1" would make it "#E10", a step that may not exist: hence notdigit.
    piece = f"{_up_to(f'(char | ref{i} notdigit)', max_text - 2)} ref{i}?"
    return [f"ref{i} ::= {known}", f"in{i} ::= visible {piece} | ref{i} (notdigit {piece})?"]


def _up_to(item: str, most: int) -> str:
    """``item`` at most ``most`` times: full runs first, so that there is one way to read a text.

    xgrammar (0.2.3 and 0.2.8 were tried) offers tokens with forbidden characters inside a repetition of more
    than about 130; the engine then gives the request up. Short runs also compile and mask faster.
    """
    if most <= _RUN:
        return f"{item}{{0,{most}}}"
    return f"({item}{{0,{_RUN - 1}}} | {item}{{{_RUN}}} {_up_to(item, most - _RUN)})"


def _quote(text: str) -> str:
    return f'"{text}"'
