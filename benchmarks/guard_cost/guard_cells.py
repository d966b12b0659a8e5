"""What is measured: cells, each with the arms that take turns in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PLAIN, GUARD, LONG_GUARD, BASE_ROWS = "plain", "guard", "guard, 64 tokens", "base rows"
ALL = (PLAIN, GUARD, LONG_GUARD, BASE_ROWS)
PLAN_TOKENS, BASE_TOKENS = 105, 24  # of an answer as long as a demo plan; of a base row beside it
WRITES = {GUARD: BASE_TOKENS, LONG_GUARD: 64}  # the base to each of the guard's questions
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

    @property
    def questions(self) -> int:
        """What the guard asks of one request: the task, its sentences, the turns, all together, each kind."""
        together = 1 if self.turns or self.evidence else 0
        return 1 + (self.sentences if self.sentences > 1 else 0) + self.turns + together + 2 * self.evidence


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


def wrong(cell: Cell, block: dict[str, Any], setting: str) -> str:
    """What shows that a block measured something else than its cell says; empty if nothing does."""
    judged = block["arm"] not in (PLAIN, BASE_ROWS)
    if setting != "cpu" and set(block["verdicts"]) != ({"allowed"} if judged else {"none"}):
        return f"verdicts {block['verdicts']}"
    if judged and block["guard"]["cached_total"]:
        return "a verdict was remembered"
    wrote, asked = block["guard"]["output_tokens_total"], block["guard"]["asked_total"]
    if setting == "gpu" and judged and wrote != asked * cell.questions * WRITES[block["arm"]]:
        return (
            f"the guard wrote {wrote / asked:.1f} tokens, not {cell.questions} times {WRITES[block['arm']]}"
        )
    if setting != "fake" and cell.route == "chat" and block["output_tokens"] != cell.output_tokens:
        return f"{block['output_tokens']:.1f} tokens an answer, not {cell.output_tokens}"
    return ""
