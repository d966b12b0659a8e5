"""Random tool sets, random valid plans over them, and random decoding under their grammar."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from planners import Plan, PlanStep, PlanSyntaxError, ToolSpec, parse
from planners.arguments.types import Choice, Either, Fields, Items, Number, Text

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

MAX_TEXT = 24
NAMES = ("a", "ab", "abc", "Plan", "E1", "_", "x" * 64, "Search", "Searches")
_KEYS = ("q", "qq", "query", "a-b", "$x", "v1.0", "E1")
_CHOICES = (
    "",
    "a",
    "ab",
    'a"b',
    "a\\",
    "a\nb",
    "日本",
    "[x]",
    "{}",
    1,
    10,
    -1,
    0.5,
    1e-05,
    True,
    False,
    None,
)
_CHARS = "aZ 09.,:;'\"\\/[]{}\n\tE=é\u3042\U0001f600\u00a0"


def random_tools(rng: random.Random, most: int = 4) -> tuple[ToolSpec, ...]:
    """Tools with and without JSON arguments; some names begin other names."""
    names = rng.sample(NAMES, rng.randint(1, most))
    return tuple(
        ToolSpec(name=name, parameters=_schema_of_object(rng, 1) if rng.random() < 0.6 else None)
        for name in names
    )


def _schema_of_object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(_KEYS, rng.randint(min(depth - 1, 1), 3))
    return {
        "type": "object",
        "properties": {name: _schema(rng, depth + 1) for name in names},
        "required": [name for name in names if rng.random() < 0.5],
    }


def _schema(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds = ["string", "integer", "number", "boolean", "enum", "const", "nullable", "either"]
    kind = rng.choice(kinds + ["array", "object"] * (depth <= 3))
    low = rng.choice((-1000, -15, -1, 0, 1, 7, 99))
    high = low + rng.choice((0, 1, 2, 30, 1000))
    if kind == "string":
        lengths = {"minLength": rng.randint(0, 3), "maxLength": rng.choice((3, 5, 20, 500))}
        return {"type": "string", **dict(rng.sample(list(lengths.items()), rng.randint(0, 2)))}
    if kind in ("integer", "number"):
        bounds = {"minimum": low, "maximum": high, "exclusiveMinimum": low - 1, "exclusiveMaximum": high + 1}
        return {"type": kind, **dict(rng.sample(list(bounds.items()), rng.randint(0, 2)))}
    if kind == "enum":
        return {"enum": rng.sample(_CHOICES, rng.randint(1, 4))}
    if kind == "const":
        return {"const": rng.choice(_CHOICES)}
    if kind == "nullable":
        return {"anyOf": [_schema(rng, depth), {"type": "null"}]}
    if kind == "either":
        return {"type": rng.sample(["string", "integer", "boolean", "null"], 2)}
    if kind == "array":
        sizes = {"minItems": rng.randint(0, 2), "maxItems": rng.randint(2, 20)}
        chosen = dict(rng.sample(list(sizes.items()), rng.randint(0, 2)))
        return {"type": "array", "items": _schema(rng, depth + 1), **chosen}
    return _schema_of_object(rng, depth) if kind == "object" else {"type": "boolean"}


def random_plan(rng: random.Random, tools: Sequence[ToolSpec], max_steps: int, first: int) -> Plan:
    """A valid plan that the grammar's bounds allow, numbered from ``first``."""
    steps = []
    for n in range(first, first + rng.randint(1, max_steps)):
        tool = rng.choice(tools)
        known = [f"#E{k}" for k in range(1, n)]
        if tool.arguments:
            given: dict[str, Any] = {"arguments": _value(rng, tool.arguments.fields, known, whole=False)}
        else:
            given = {"tool_input": _line(rng, known)}
        steps.append(PlanStep(id=f"#E{n}", thought=_line(rng, []), tool=tool.name, **given))
    return Plan(steps=tuple(steps))


def _line(rng: random.Random, known: Sequence[str]) -> str:
    text = _text(rng, known, "aZ 09.,:'\"\\/{}E=é\u3042\U0001f600", 0, MAX_TEXT).strip()
    return text or (rng.choice(known) if known else "x")


def _text(rng: random.Random, known: Sequence[str], chars: str, least: int, most: int) -> str:
    if not known or rng.random() < 0.5:
        return "".join(rng.choices(chars, k=rng.randint(least, most)))
    parts = [""]
    for _ in range(rng.randint(1, 3)):  # each part is one unit of the grammar at most
        part = "".join(rng.choices(chars, k=rng.randint(0, 4)))
        parts += [rng.choice(known), part if not part[:1].isdigit() else f" {part[1:]}"]
    return "".join(rng.choices(chars, k=rng.randint(0, 4))) + "".join(parts)


def _value(rng: random.Random, node: Any, known: Sequence[str], *, whole: bool = True) -> Any:
    if whole and known and rng.random() < 0.2:
        return rng.choice(known)
    if isinstance(node, Either):
        return _value(rng, rng.choice(node.ways), known)
    if isinstance(node, Text):
        most = MAX_TEXT if node.most is None else min(node.most, MAX_TEXT)
        return _text(rng, known, _CHARS, node.least, most)
    if isinstance(node, Choice):
        return json.loads(rng.choice(node.texts))
    if isinstance(node, Items):
        most = min(8, node.most if node.most is not None else 8)
        return [_value(rng, node.of, known) for _ in range(rng.randint(node.least, max(node.least, most)))]
    if isinstance(node, Fields):
        chosen = [f for f in node.fields if f.required or rng.random() < 0.5]
        return {f.name: _value(rng, f.value, known) for f in chosen}
    return _number(rng, node)


def _number(rng: random.Random, node: Number) -> int | float:
    low = -(10**15) + 1 if node.least is None else node.least
    high = 10**15 - 1 if node.most is None else node.most
    while True:
        close = max(low, min(high, rng.choice((low, high, 0)) + rng.randint(-20, 20)))
        value: int | float = rng.choice((close, rng.randint(low, high)))
        if not node.whole and abs(value) < 10**9 and rng.random() < 0.7:
            value = round(value + rng.choice((-1, 1)) * rng.choice((0.0, 0.5, 0.0625, 0.1234, 0.987654)), 6)
        # Between two bounds that are next to each other there are fractions only.
        if not tuple(node.problems(value, "$", ())) and "e" not in repr(value):
            return value


def mutant(rng: random.Random, text: str) -> str:
    """``text`` with a few characters left out, put in, doubled or exchanged."""
    for _ in range(rng.randint(1, 3)):
        at, to = rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)
        piece = rng.choice(
            ("#", "#E1", "#E2", "#E12", "9", "0", '"', "\\", "]", "}", "\n", ", ", " ", "\x7f")
        )
        middle = rng.choice((piece, "", text[min(at, to) : max(at, to)]))
        text = text[:at] + middle + text[at + rng.randint(0, 1) :]
    return text


def faults(text: str, tools: Sequence[ToolSpec], evidence: Sequence[str], max_steps: int) -> list[str]:
    """What keeps ``text`` from being a valid plan in its one spelling."""
    try:
        plan = parse(text)
    except PlanSyntaxError as error:
        return [str(error)]
    found = [str(problem) for problem in plan.problems(tools, evidence, max_steps=max_steps)]
    wanted = [f"#E{len(evidence) + n}" for n in range(1, len(plan.steps) + 1)]
    if [step.id for step in plan.steps] != wanted:
        found.append(f"the steps are not numbered {wanted}")
    lines = text.split("\n")
    for step in plan.steps:
        if step.arguments is not None and f"{step.id} = {step.tool}{step.tool_input}" not in lines:
            found.append(f"{step.tool_input} is written in another way")
    return found


class Walker:
    """Random decoding with one tokenizer, as an engine does it: any token whose bit is set may come next."""

    def __init__(self, xgrammar: Any, info: Any) -> None:
        self._xgrammar, self._end = xgrammar, info.stop_token_ids[0]
        self.compiler = xgrammar.GrammarCompiler(info)
        self._tokens: list[bytes] = list(info.decoded_vocab)
        self._mask = xgrammar.allocate_token_bitmask(1, info.vocab_size)
        tokens = self._tokens
        matter = set(b'#E0123456789[]{}"\\\n,:')
        self._matter = np.array([any(b in matter for b in token) for token in tokens])
        self._reference = np.array([token.strip() in (b"#", b"E", b"#E") for token in tokens])
        self._wide = np.array([any(b > 0x7F for b in token) for token in tokens])
        self._closing = np.array([token[-1:] in (b"]", b"}", b'"', b"\n") for token in tokens])

    def accepts(self, compiled: Any, text: str) -> bool:
        """Whether the whole text, and then the end, can be decoded."""
        matcher = self._xgrammar.GrammarMatcher(compiled)
        return matcher.accept_string(text) and matcher.accept_token(self._end)

    def sentence(self, compiled: Any, rng: random.Random) -> str:
        """A finished sentence; what is sampled is mostly what a plan's structure is made of."""
        matcher = self._xgrammar.GrammarMatcher(compiled)
        # How likely a token is chosen for holding what matters, a reference, another script, an end.
        taste = rng.choice(((0.5, 0.2, 0.1, 0.2), (0.2, 0.1, 0.5, 0.1), (0.1, 0.05, 0.1, 0.02)))
        out = b""
        while True:
            matcher.fill_next_token_bitmask(self._mask)
            bits = np.unpackbits(self._mask.numpy().view(np.uint8), bitorder="little")[: len(self._matter)]
            allowed = bits.astype(bool)
            if allowed[self._end] and rng.random() < 0.2:
                token = self._end
            else:
                token = self._pick(allowed, taste, rng)
            if not matcher.accept_token(token):
                raise AssertionError(f"token {self._tokens[token]!r} was offered and refused after {out!r}")
            if token == self._end:
                return out.decode()
            out += self._tokens[token]

    def _pick(self, allowed: np.ndarray, taste: tuple[float, ...], rng: random.Random) -> int:
        for kind, chance in zip(
            (self._matter, self._reference, self._wide, self._closing), taste, strict=True
        ):
            if rng.random() < chance and (both := np.flatnonzero(allowed & kind)).size:
                return int(both[rng.randrange(both.size)])
        every = np.flatnonzero(allowed)
        if not every.size:
            raise AssertionError("no token may come next")
        return int(every[rng.randrange(every.size)])
