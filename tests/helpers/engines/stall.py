"""A fake engine that stands still in the middle of an answer: what has come out must arrive all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faulty_engine import FaultyEngine


def stall(engine: FaultyEngine, after: int) -> None:
    """Let every answer hang, for longer than any test waits, once ``after`` words of it have come out."""
    strike = engine.strike

    def striking(call: Any, slot: Any, words: int = 0) -> None:
        strike(call, slot, words)
        if words + 1 >= after:  # asked before this word is handed out, and before the pause for the next one
            engine.seconds_per_token = 600

    engine.strike = striking  # type: ignore[method-assign]
