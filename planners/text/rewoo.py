"""Plans as ReWOO text (Xu et al., arXiv 2305.18323): strict to read, one way to write.

    Plan: Find who directed the film.
    #E1 = Search[director of Inception]
    Plan: Find where that person was born.
    #E2 = Lookup{"person": "#E1", "facts": ["place of birth"]}

A tool takes text in square brackets or, which the paper does not have, JSON arguments in braces.
The paper's own parser turns ``#E10`` and above into "No evidence found", aborts on a plan without evidence
and lets a repeated ``#E1`` overwrite the first. Here ids have several digits, a syntax error names its line,
and a repeated id is kept for ``Plan.problems`` to report.
"""

from __future__ import annotations

from planners.plan import Plan
from planners.text.formats import rewoo
from planners.text.stream import PlanReader
from planners.text.syntax import PlanSyntaxError

__all__ = ["PlanSyntaxError", "parse", "render"]


def render(plan: Plan) -> str:
    """The plan's canonical text, without a final newline; ``parse`` gives the same steps back."""
    return rewoo(plan.steps)


def parse(text: str) -> Plan:
    """Read a plan; blank lines and spaces around a line do not matter, anything else unexpected is an error.

    Only syntax is checked: ``Plan.problems`` checks tools and references. Raises PlanSyntaxError.
    """
    reader = PlanReader()
    steps = reader.feed(text)
    return Plan(steps=steps + reader.finish())
