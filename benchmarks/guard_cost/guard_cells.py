"""What is measured: cells, each with the arms that take turns in it."""

from __future__ import annotations

from dataclasses import dataclass

PLAIN, GUARD, LONG_GUARD, BASE_ROWS = "plain", "guard", "guard, 64 tokens", "base rows"
ALL = (PLAIN, GUARD, LONG_GUARD, BASE_ROWS)
PLAN_TOKENS, BASE_TOKENS = 105, 24  # of an answer as long as a demo plan; of a base row beside it
PLAIN_PLANNER, GUARDED_PLANNER = "plain", "guarded"
KEY, LONG_KEY = "guard-cost", "guard-cost-long"  # the second one's questions take the base 64 tokens


@dataclass(frozen=True)
class Cell:
    """One kind of request, so many at a time. ``seconds``: how long rounds are begun, two at least.

    ``each``: requests of each client in a block. ``turns``: of the user, before the task. ``history``: tokens
    of all that stands before it. ``evidence``: the client sends tools and results of its own.
    """

    name: str
    in_flight: int
    seconds: float
    each: int = 3
    arms: tuple[str, ...] = (PLAIN, GUARD)
    sentences: int = 1
    history: int = 0
    turns: int = 0
    route: str = "chat"
    evidence: bool = False
    output_tokens: int = PLAN_TOKENS


# The ones that an aim hangs on first: what comes last is left out when time runs short.
GPU = (
    Cell("one sentence", 16, 60, arms=ALL),
    Cell("one sentence", 1, 40, each=2, arms=ALL),
    Cell("one sentence", 64, 50, each=2, arms=ALL),
    Cell("plan", 16, 18, route="plan"),
    Cell("conversation of 2,000 tokens", 16, 25, each=2, history=2000, turns=4),
    Cell("one sentence", 256, 45, each=2, arms=ALL),
    Cell("three sentences", 16, 18, sentences=3),
    Cell("conversation of 256 tokens", 16, 18, history=256, turns=1),
    Cell("plan, tools and evidence", 16, 18, route="plan", evidence=True),
    Cell("plan", 1, 14, each=2, route="plan"),
    Cell("conversation of 8,000 tokens", 16, 45, each=1, history=8000, turns=8),
)
CPU = (
    Cell("one sentence", 1, 60, each=2, arms=(PLAIN, GUARD, BASE_ROWS)),
    Cell("one sentence", 4, 60, each=2, arms=(PLAIN, GUARD, BASE_ROWS)),
    Cell("plan", 1, 40, each=2, route="plan"),
    Cell("conversation of 256 tokens", 4, 40, each=2, history=256, turns=1),
)
FAKE = (
    Cell("one sentence", 1, 0, each=1, arms=ALL, output_tokens=0),
    Cell("one sentence", 8, 0, each=2, arms=ALL, output_tokens=0),
    Cell("plan, tools and evidence", 4, 0, each=1, route="plan", evidence=True),
    Cell("conversation of 256 tokens", 4, 0, each=1, history=256, turns=2, output_tokens=0),
)
CELLS = {"gpu": GPU, "cpu": CPU, "fake": FAKE}
