"""A task in pieces: what a guard asks one by one, since a harmless sentence beside it hides a harmful one."""

from __future__ import annotations

import re

MOST = 16  # pieces of one task; a longer one has more sentences in each
_SHORT = 3  # words: fewer are no sentence, and stand with what follows
# Signs that end a sentence, what may close a quote or markup behind them, and a gap, which format characters
# are, too: they look like one, or like nothing. Behind a full-width sign there need be none.
_GAP = r"[\s\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]"
_END = re.compile(
    rf"(?<=[.!?:;…])[^\w\s.!?:;…\u200b]*+{_GAP}+|(?<=[。！？；：｡])|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+"
)


def sentences(task: str) -> tuple[str, ...]:
    """The task's sentences, each once and in their order; none for a task of one sentence."""
    found: list[str] = []
    for piece in filter(None, map(str.strip, _END.split(task))):
        if found and len(found[-1].split()) < _SHORT:
            found[-1] += f" {piece}"
        else:
            found.append(piece)
    found = list(dict.fromkeys(found))
    if len(found) < 2:
        return ()
    size = -(-len(found) // MOST)
    return tuple(" ".join(found[at : at + size]) for at in range(0, len(found), size))
