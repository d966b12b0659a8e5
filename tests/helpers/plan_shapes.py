"""Plans of every shape that a graph has to show."""

from __future__ import annotations

import random

import pytest

from planners import Plan, PlanStep

TOOLS = ("Search", "LLM", "Calculator")


def make(count: int, uses, text: str = "where the director of that film was born, and in which year") -> Plan:
    """A plan of so many steps; ``uses(n)`` are the numbers of those that step n uses."""
    steps = []
    for n in range(1, count + 1):
        given = "".join(f" #E{m}" for m in uses(n))
        steps.append(PlanStep(id=f"#E{n}", thought="Go on.", tool=TOOLS[n % 3], tool_input=text + given))
    return Plan(steps=tuple(steps))


def at_random(seed: int) -> Plan:
    """32 steps, each of which uses up to three earlier ones."""
    rng = random.Random(seed)
    return make(32, lambda n: rng.sample(range(1, n), min(n - 1, rng.choice((0, 1, 1, 2, 3)))))


PLANS = {
    "one": make(1, lambda n: ()),
    "four": make(4, lambda n: {3: (1, 2), 4: (1, 3)}.get(n, ())),
    "side by side": make(32, lambda n: ()),
    "one after the other": make(32, lambda n: range(max(n - 1, 1), n)),
    "each uses all": make(32, lambda n: range(1, n)),
    "known before": make(3, lambda n: (90, 91)),
    "long words": make(3, lambda n: range(1, n), "W" * 240),
    "formulas and brackets": make(2, lambda n: range(1, n), r"$x^2$ costs $5 \frac {a} % & _ {b: 'c'}"),
    **{f"at random {seed}": at_random(seed) for seed in range(3)},
}
every_plan = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
