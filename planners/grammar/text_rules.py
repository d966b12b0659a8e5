"""Grammar rules for bounded text with references to earlier results in it: inputs and JSON strings.

How they are written decides what decoding costs. For each place where a token may be read, xgrammar keeps
which tokens fit; what depends on what follows the place's rule it must try at each step, up to 40 ms for
50,000 tokens. So a text is a chain of rules, one for each character that is left, each with what follows in
itself: within a text, nothing depends on the outside but the few tokens that end it, and "(= ...)" says
which those are. The chains do not depend on step, tools or ``max_text``: xgrammar keeps their tables, so that
a grammar for another tool set, or for fewer characters, compiles in a fraction of the first one's time.
"""

from __future__ import annotations

from dataclasses import dataclass

_PARTS = 6  # an input is divided into so many parts, at most, by references


def _class(*ranges: tuple[int, int]) -> str:
    """A class of these code points, first and last included."""
    return "[" + "".join(f"{escape(a)}-{escape(b)}" for given in ranges for a, b in _by_bytes(*given)) + "]"


def escape(code: int) -> str:
    """A character of the grammar by its number, the shortest way."""
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _by_bytes(low: int, high: int) -> list[tuple[int, int]]:
    """The range in pieces in whose UTF-8 each byte is the same, or has its own range.

    xgrammar 0.2.3 (vLLM 0.26) gets others wrong: most of Korean was no text in a class that reached it.
    """
    cuts = [edge for edge in (0x80, 0x800, 0x10000) if low < edge <= high]
    for size in (1 << 6, 1 << 12, 1 << 18):  # what one, two and three bytes after the first can tell apart
        if low // size != high // size:
            cuts += [(low // size + 1) * size] if low % size else []
            cuts += [high // size * size] if (high + 1) % size else []
    return [*_by_bytes(low, cuts[0] - 1), *_by_bytes(cuts[0], high)] if cuts else [(low, high)]


# What ``str.strip`` removes may not stand first, or a text could be blank. "#" only starts references and
# brackets only delimit inputs, so neither can be text; control characters and line breaks never are. xgrammar
# works on bytes and would let surrogates through, which are no UTF-8. Written as what is allowed, since
# xgrammar before 0.2.4 cannot compile [^...] with anything beyond ASCII in it.
_WIDE = ((0xA0, 0x2027), (0x202A, 0xD7FF), (0xE000, 0x10FFFF))
_WIDE_VISIBLE = (
    *((0xA1, 0x167F), (0x1681, 0x1FFF), (0x2010, 0x2027), (0x2030, 0x205E), (0x2070, 0x2FFF)),
    *((0x3001, 0xD7FF), (0xE000, 0xFEFE), (0xFF00, 0x10FFFF)),
)


@dataclass(frozen=True)
class Alphabet:
    """Rules for one kind of text. ``name`` begins the names of all its rules."""

    name: str
    first: str  # class of what may begin a text
    char: str  # class of what may stand in it
    plain: str  # class of what may follow a reference: no digit, which would make #E1 another step
    end: str  # class of what follows a text or a part of one
    escapes: str = ""  # what may stand in place of a character, as a sequence


TEXT = Alphabet(
    "t",
    first=_class((0x21, 0x22), (0x24, 0x5A), (0x5C, 0x5C), (0x5E, 0x7E), *_WIDE_VISIBLE),
    char=_class((0x20, 0x22), (0x24, 0x5A), (0x5C, 0x5C), (0x5E, 0x7E), *_WIDE),
    plain=_class((0x20, 0x22), (0x24, 0x2F), (0x3A, 0x5A), (0x5C, 0x5C), (0x5E, 0x7E), *_WIDE),
    end=r"[\n#\]]",
)
# Escapes as json.dumps writes them: only what needs one, and only line breaks and tabs of all controls.
JSON_TEXT = Alphabet(
    "j",
    first=_class((0x20, 0x21), (0x24, 0x5B), (0x5D, 0x7E), *_WIDE),
    char=_class((0x20, 0x21), (0x24, 0x5B), (0x5D, 0x7E), *_WIDE),
    plain=_class((0x20, 0x21), (0x24, 0x2F), (0x3A, 0x5B), (0x5D, 0x7E), *_WIDE),
    end='["#]',
    escapes=r'"\\" ["\\nt]',
)


def chain_rules(kind: Alphabet, most: int) -> list[str]:
    """Rules ``{name}1`` to ``{name}{most}``: up to so many characters. No step or limit is in them."""
    x = kind.name
    rules = [f"{x}c ::= {kind.char}", f"{x}e ::= {kind.end}"]
    for n in range(1, most + 1):
        # There are hundreds of these: without the spaces that are not needed.
        more = _after(kind, f"{x}c", f"{x}{n - 1}" if n > 1 else "").replace(" | ", "|")
        rules.append(f'{x}{n} ::= (""|{more})(={x}e)')
    return rules


def part_rules(kind: Alphabet, most: int) -> list[str]:
    """Parts of one to six units: ``f`` begin a text, ``p`` follow a reference."""
    x, unit, parts = kind.name, *units(most)
    rules = [f"{x}first ::= {kind.first}", f"{x}plain ::= {kind.plain}"]
    for n in range(1, parts + 1):
        rest = f"{x}{n * unit - 1}" if n * unit > 1 else ""
        rules.append(f"{x}f{n} ::= ({_after(kind, f'{x}first', rest)}) (={x}e)")
        rules.append(f"{x}p{n} ::= ({_after(kind, f'{x}plain', rest)}) (={x}e)")
    return rules


def units(most: int) -> tuple[int, int]:
    """Characters of one unit of a text of ``most`` characters, and how many units it has."""
    parts = min(_PARTS, most)
    return most // parts, parts


def referring(kind: Alphabet, step: int, most: int) -> tuple[str, list[str]]:
    """A text of step ``step`` with one reference or more, as alternatives, and the rules that they need.

    Characters are at most ``most`` in all, each part between references rounded up to a whole unit.
    """
    x, ref, parts = kind.name, f"ref{step}", units(most)[1]

    def left(n: int) -> str:  # after a reference, with n units left
        return f" {x}{step}a{n}" if n else ""

    def more(n: int) -> str:  # after a part, with n units left
        return f" {x}{step}b{n}"

    rules = [f'{x}{step}b{n} ::= "" | {ref}{left(n)}' for n in range(parts)]
    for n in range(1, parts + 1):
        ways = [f"{x}p{k}{more(n - k)}" for k in range(1, n + 1)]
        rules.append(f'{x}{step}a{n} ::= "" | {ref}{left(n - 1)} | {" | ".join(ways)}')
    starts = [f"{x}f{k} {ref}{left(parts - k)}" for k in range(1, parts + 1)]
    return " | ".join([f"{ref}{left(parts)}", *starts]), rules


def reference_rule(step: int) -> str:
    """Rule ``ref{step}``: #E1 to #E(step-1)."""
    tens, ones = divmod(step - 1, 10)
    ways = [f"[1-{ones if not tens else 9}]"]
    if tens > 1:
        ways.append(f"[1-{tens - 1}] [0-9]")
    if tens:
        ways.append(f'"{tens}" [0-{ones}]')
    return f'ref{step} ::= "#E" ({" | ".join(ways)})'


def _after(kind: Alphabet, char: str, rest: str) -> str:
    ways = [char, kind.escapes] if kind.escapes else [char]
    return " | ".join(f"{way} {rest}".strip() for way in ways)
