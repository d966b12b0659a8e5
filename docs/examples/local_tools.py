"""Tools that need no network: a search over facts.txt and a calculator. The other examples use them."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

Tool = Callable[[str], Awaitable[str]]
FACTS = Path(__file__).with_name("facts.txt")
_WORD = re.compile(r"\w+")
_ABOUT = re.compile(" (?:is|was|goes) ")
_DO = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def search(query: str) -> str:
    """Find the two lines of facts.txt that share the rarest words with the query."""
    facts = _facts()
    wanted = _words(query)
    # A word counts for more the fewer facts have it, so "the" and "film" decide nothing.
    having = Counter(word for words in facts.values() for word in words)
    score = {}
    for fact, words in facts.items():
        # Once for being there, once more where the line says what it is about.
        shared = [*(wanted & words), *(wanted & _words(_ABOUT.split(fact)[0]))]
        score[fact] = sum(1 / having[word] for word in shared)
    best = sorted(facts, key=lambda fact: -score[fact])[:2]
    return " ".join(fact for fact in best if score[fact]) or "nothing found"


def calculator(expression: str) -> str:
    """Work out an arithmetic expression. It is read as syntax and never run as code."""
    text = expression.replace("$", "").replace("×", "*").replace("÷", "/").rstrip(" =?.")
    if len(text) > 200:
        return "error: the expression is too long"
    try:
        value = _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ArithmeticError) as error:
        return f"error: cannot work out {text!r}: {error}"
    return f"{value:.10g}"


def local_tools(ask: Tool) -> dict[str, Tool]:
    """Search and calculator by the names that plans use, and ``ask`` as the language model."""

    async def look_up(query: str) -> str:
        return search(query)

    async def work_out(expression: str) -> str:
        return calculator(expression)

    return {"Search": look_up, "Calculator": work_out, "LLM": ask}


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return float(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in _DO:
        return _DO[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _DO:
        return _DO[type(node.op)](_value(node.operand))
    raise ValueError("only numbers, + - * / % and brackets are understood")


@cache
def _facts() -> dict[str, set[str]]:
    return {line: _words(line) for line in FACTS.read_text().splitlines() if line.strip()}


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}
