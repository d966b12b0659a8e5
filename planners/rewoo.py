"""Plans as ReWOO text (Xu et al., arXiv 2305.18323): strict to read, one way to write.

    Plan: Find who directed the film.
    #E1 = Search[director of Inception]
    Plan: Find where that person was born.
    #E2 = Search[#E1 place of birth]

The paper's own parser turns ``#E10`` and above into "No evidence found", aborts on a plan without evidence
and lets a repeated ``#E1`` overwrite the first. Here ids have several digits, a syntax error names its line,
and a repeated id is kept for ``Plan.problems`` to report.
"""

from __future__ import annotations

import re

from pydantic import ValidationError

from planners.plan import Plan, PlanStep

_CALL = re.compile(r"(?P<id>#E[0-9]+) = (?P<tool>[^\[\]]*)\[(?P<input>.*)\]")
_PLAN = "Plan: "


class PlanSyntaxError(ValueError):
    """Text that is not a ReWOO plan. ``line`` counts from 1; ``steps`` are those read before it."""

    def __init__(self, message: str, *, line: int, steps: tuple[PlanStep, ...]) -> None:
        super().__init__(f"line {line}: {message}")
        self.line = line
        self.steps = steps


def render(plan: Plan) -> str:
    """The plan's canonical text, without a final newline; ``parse`` gives the same steps back."""
    return "\n".join(
        f"{_PLAN}{step.thought}\n{step.id} = {step.tool}[{step.tool_input}]" for step in plan.steps
    )


def parse(text: str) -> Plan:
    """Read a plan; blank lines and spaces around a line do not matter, anything else unexpected is an error.

    Only syntax is checked: ``Plan.problems`` checks tools and references. Raises PlanSyntaxError.
    """
    steps: list[PlanStep] = []
    thought: str | None = None
    number = 0
    # Not splitlines(): it also breaks at form feeds and U+2028, which would let a thought forge a step.
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line:
            continue
        if thought is None:
            if not line.startswith(_PLAN):
                raise _error(f"expected 'Plan: ...', got {_short(line)}", number, steps)
            thought = line.removeprefix(_PLAN)
        else:
            steps.append(_step(line, thought, number, steps))
            thought = None
    if thought is not None:
        raise _error("the text ends after 'Plan: ...', before its '#E... = Tool[input]'", number, steps)
    if not steps:
        raise _error("there is no step", 1, steps)
    return Plan(steps=tuple(steps))


def _step(line: str, thought: str, number: int, steps: list[PlanStep]) -> PlanStep:
    call = _CALL.fullmatch(line)
    if call is None:
        raise _error(f"expected '#E{len(steps) + 1} = Tool[input]', got {_short(line)}", number, steps)
    try:
        return PlanStep(id=call["id"], thought=thought, tool=call["tool"], tool_input=call["input"])
    except ValidationError as error:
        raise _error(error.errors()[0]["msg"].removeprefix("Value error, "), number, steps) from error


def _error(message: str, line: int, steps: list[PlanStep]) -> PlanSyntaxError:
    return PlanSyntaxError(message, line=line, steps=tuple(steps))


def _short(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")
