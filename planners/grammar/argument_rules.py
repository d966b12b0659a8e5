"""Grammar rules for JSON arguments: each sentence fits the tool's schema and is written as by json.dumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planners.arguments.types import Choice, Either, Fields, Items, Number, Text, Value
from planners.grammar.number_rules import FRACTION_RULES, number
from planners.grammar.text_rules import JSON_TEXT, chain_rules, escape, part_rules, referring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planners.arguments.arguments import Arguments

MAX_ITEMS = 8  # of a list that has no limit, so that decoding ends


class ArgumentRules:
    """Rules for the arguments of several tools; what does not refer to results is shared by all steps."""

    def __init__(self, max_text: int) -> None:
        self._max_text = max_text
        self._longest = max_text  # the chain that strings need; minLength may be above max_text
        self._shared: dict[str, str] = {}  # right side → name
        self._nodes: dict[Value, int] = {}

    def of_step(self, step: int, tools: Sequence[Arguments]) -> tuple[list[str], list[str]]:
        """For each tool the name of its rule at ``step``, and all rules of that step."""
        rules: list[str] = []
        if step > 1:
            ways, rules = referring(JSON_TEXT, step, self._max_text)
            rules.append(f'quoted{step} ::= "\\"" ({ways}) "\\""')
            rules.append(f'whole{step} ::= "\\"" ref{step} "\\""')
        made: dict[Value, str] = {}
        return [self._compound(tool.fields, step, rules, made) for tool in tools], rules

    def shared(self) -> list[str]:
        """The rules that all steps use; complete once ``of_step`` was called for every step."""
        rules = [*chain_rules(JSON_TEXT, self._longest), *part_rules(JSON_TEXT, self._max_text)]
        return [*rules, *FRACTION_RULES, *(f"{name} ::= {right}" for right, name in self._shared.items())]

    def _value(self, node: Value, step: int, rules: list[str], made: dict[Value, str]) -> str:
        """An expression for the value, or a reference to an earlier result in its place."""
        ways = node.ways if isinstance(node, Either) else (node,)
        found = []
        for way in ways:
            if isinstance(way, Text):
                found.append(self._share(self._string(way)))
                found += [f"quoted{step}"] * (step > 1)
            elif isinstance(way, Number):
                found.append(self._share(number(way)))
            elif isinstance(way, Choice):
                found.append(self._share(" | ".join(literal(text) for text in way.texts)))
            else:
                found.append(self._compound(way, step, rules, made))
        if step > 1 and f"quoted{step}" not in found:
            found.append(f"whole{step}")
        return f"({' | '.join(dict.fromkeys(found))})" if len(found) > 1 else found[0]

    def _compound(self, node: Value, step: int, rules: list[str], made: dict[Value, str]) -> str:
        if node not in made:
            name = made[node] = f"v{step}x{self._nodes.setdefault(node, len(self._nodes))}"
            if isinstance(node, Items):
                item = self._value(node.of, step, rules, made)
                rules.append(f"{name} ::= {_list(item, node)}")
            elif isinstance(node, Fields):
                self._object(node, name, step, rules, made)
        return made[node]

    def _object(self, node: Fields, name: str, step: int, rules: list[str], made: dict[Value, str]) -> None:
        """In the schema's order. Rule ``a{n}`` goes on at property n after another one, ``b{n}`` as first."""
        end = len(node.fields)
        first_needed = next((n for n, field in enumerate(node.fields) if field.required), end)
        rules.append(f'{name} ::= "{{" {name}b0')
        for n, field in enumerate(node.fields):
            key = self._share(literal(f'"{field.name}": '))
            pair = f"{key} {self._value(field.value, step, rules, made)} {name}a{n + 1}"
            skip_a, skip_b = ("", "") if field.required else (f" | {name}a{n + 1}", f" | {name}b{n + 1}")
            if n:
                rules.append(f'{name}a{n} ::= ", " {pair}{skip_a}')
            if n <= first_needed:
                rules.append(f"{name}b{n} ::= {pair}{skip_b}")
        rules.append(f'{name}a{end} ::= "}}"')
        if first_needed == end:
            rules.append(f'{name}b{end} ::= "}}"')

    def _string(self, node: Text) -> str:
        most = most_chars(node, self._max_text)
        self._longest = max(self._longest, most)
        x, rest = JSON_TEXT.name, most - node.least
        name = f"{x}{rest}" if rest else ""
        for _ in range(node.least):  # from the end: each rule reads one character and goes on
            name = self._share(f"{x}c {name} | {JSON_TEXT.escapes} {name}")
        return f'"\\"" {name} "\\""'

    def _share(self, right: str) -> str:
        return self._shared.setdefault(right, f"x{len(self._shared)}")


def literal(text: str) -> str:
    """``text`` as a literal of the grammar, whatever it holds."""
    return '"' + "".join(_character(c) for c in text) + '"'


def _character(c: str) -> str:
    return f"\\{c}" if c in '"\\' else c if " " <= c <= "~" else escape(ord(c))


def most_chars(node: Text, max_text: int) -> int:
    """Characters that a string without references can have."""
    return max(node.least, max_text if node.most is None else min(node.most, max_text))


def most_items(node: Items) -> int:
    """Items that a list can have."""
    return max(node.least, MAX_ITEMS if node.most is None else min(node.most, MAX_ITEMS))


def _list(item: str, node: Items) -> str:
    most = most_items(node)
    empty = ['"[]"'] if node.least == 0 else []
    some = [f'"[" {item} (", " {item}){{{max(node.least, 1) - 1},{most - 1}}} "]"'] if most else []
    return " | ".join([*empty, *some])
