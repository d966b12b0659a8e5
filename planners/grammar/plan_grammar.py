"""An EBNF grammar whose every sentence is a valid plan: one rule per step.

Step i may only name offered tools and only refer to #E1...#E(i-1): plans are acyclic, use known tools and
known evidence by construction. Text is bounded: decoding ends. For xgrammar, which vLLM decodes with.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from planners.grammar.argument_lengths import check_argument_chars
from planners.grammar.argument_rules import ArgumentRules, literal
from planners.grammar.text_rules import TEXT, chain_rules, part_rules, reference_rule, referring
from planners.tools import MAX_STEPS, MAX_TOOLS, NAME_RULE, TOOL_NAME, ToolSpec, check_grammar_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planners.arguments.arguments import Arguments

MAX_TEXT = 240  # characters of a thought, an input or a string, without the references in it

_Tools = tuple[tuple[str, "Arguments | None"], ...]


def plan_grammar(
    tools: Sequence[ToolSpec | str], max_steps: int, *, first: int = 1, max_text: int = MAX_TEXT
) -> str:
    """Grammar of every plan of 1 to ``max_steps`` steps over ``tools``, numbered from ``#E{first}``.

    ``first`` > 1 continues a plan whose results #E1...#E(first-1) are known (``PlannerInput.first_step``).
    The order of ``tools`` does not matter: equal sets give equal text, which the engine has compiled already.
    A tool with parameters is called with JSON, ``Tool{"key": value}``, another one with text, ``Tool[text]``.
    Raises ValueError for no tools, unusable names, one name for two tools, too many JSON values for so many
    steps, arguments that could be longer than a step may be, or numbers out of range.
    """
    offered = _canonical(tools)
    if not 1 <= len(offered) <= MAX_TOOLS:
        raise ValueError(f"{len(offered)} tools: offer 1 to {MAX_TOOLS}")
    if not 1 <= max_steps <= MAX_STEPS:
        raise ValueError(f"max_steps {max_steps}: use 1 to {MAX_STEPS}")
    if not 1 <= first <= MAX_STEPS + 1:
        raise ValueError(f"first {first}: use 1 to {MAX_STEPS + 1}")
    if max_text < 2:
        raise ValueError(f"max_text {max_text}: use at least 2")
    check_grammar_parts((arguments for _, arguments in offered), max_steps)
    check_argument_chars(offered, max_text)
    return _grammar(offered, max_steps, first, max_text)


def _canonical(tools: Sequence[ToolSpec | str]) -> _Tools:
    offered: dict[str, Arguments | None] = {}
    for tool in tools:
        name, arguments = (tool, None) if isinstance(tool, str) else (tool.name, tool.arguments)
        if not TOOL_NAME.fullmatch(name):  # a quote in a name would change the grammar
            raise ValueError(f"tool name {name[:160]!r}: use {NAME_RULE}")
        if offered.setdefault(name, arguments) != arguments:
            raise ValueError(f"tool {name!r} is offered with different parameters; give each its own name")
    return tuple(sorted(offered.items(), key=lambda tool: tool[0]))


@lru_cache(maxsize=64)  # 250 kB each at most; the engine caches what it compiled
def _grammar(tools: _Tools, max_steps: int, first: int, max_text: int) -> str:
    plain = [name for name, arguments in tools if arguments is None]
    # Tools that take the same arguments share their rules.
    alike: dict[Arguments, list[str]] = {}
    for name, arguments in tools:
        if arguments is not None:
            alike.setdefault(arguments, []).append(name)
    rules = [f"root ::= s{first}", *([f"tool ::= {_any(plain)}"] if plain else [])]
    rules += [f"tool{n} ::= {_any(names)}" for n, names in enumerate(alike.values())]
    rules += chain_rules(TEXT, max_text - 1) + part_rules(TEXT, max_text)
    rules.append(f"text ::= {TEXT.name}first {TEXT.name}{max_text - 1}")
    json = ArgumentRules(max_text)
    last = first + max_steps - 1
    for i in range(first, last + 1):
        if i > 1:
            rules.append(reference_rule(i))
        calls = []
        if plain:
            rules += _input_rules(i, max_text)
            calls.append(f'tool "[" in{i} "]"')
        if alike:
            names, needed = json.of_step(i, list(alike))
            rules += needed
            calls += [f"tool{n} {name}" for n, name in enumerate(names)]
        call = calls[0] if len(calls) == 1 else f"({' | '.join(calls)})"
        more = f' ("\\n" s{i + 1})?' if i < last else ""
        rules.append(f's{i} ::= "Plan: " text "\\n#E{i} = " {call}{more}')
    if alike:
        rules += json.shared()
    return "\n".join(rules) + "\n"


def _input_rules(i: int, max_text: int) -> list[str]:
    if i == 1:
        return ["in1 ::= text"]
    ways, rules = referring(TEXT, i, max_text)
    return [*rules, f"in{i} ::= text | {ways}"]


def _any(names: list[str]) -> str:
    return " | ".join(literal(name) for name in names)
