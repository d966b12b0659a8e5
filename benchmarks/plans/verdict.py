"""Whether an answer is a valid plan, and if not, what is wrong with it first."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from pydantic import ValidationError

from planners import Plan, PlannerInput, PlanSyntaxError, parse
from planners.repair import repair

if TYPE_CHECKING:
    from collections.abc import Sequence

VALID = "valid"


def verdict(text: str, finish_reason: str, request: PlannerInput, mode: str) -> str:
    """``valid``, or the kind of the first fault: cut, syntax, unknown_tool, ..."""
    if finish_reason != "stop":
        return "cut"
    try:
        plan = _from_json(text) if mode == "schema" else parse(text)
    except (PlanSyntaxError, ValidationError, ValueError):
        return "syntax"
    problems = plan.problems(request.tools, max_steps=request.max_steps)
    return problems[0].kind if problems else VALID


def mended(text: str, request: PlannerInput) -> bool:
    """Whether the repairs that need no second answer make a valid plan of it."""
    found = repair(text, request)
    return bool(found.plan.steps) and not found.problems


def schema(request: PlannerInput) -> dict[str, object]:
    """What JSON Schema can say of a plan: shape, names and lengths, but not which results exist already."""
    text = {"type": "string", "minLength": 1, "maxLength": 240}
    step = {
        "type": "object",
        "properties": {
            "id": {"enum": [f"#E{n}" for n in range(1, request.max_steps + 1)]},
            "thought": text,
            "tool": {"enum": sorted(tool.name for tool in request.tools)},
            "tool_input": text,
        },
        "required": ["id", "thought", "tool", "tool_input"],
        "additionalProperties": False,
    }
    steps = {"type": "array", "items": step, "minItems": 1, "maxItems": request.max_steps}
    return {
        "type": "object",
        "properties": {"steps": steps},
        "required": ["steps"],
        "additionalProperties": False,
    }


def interval(successes: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.96, successes / total
    middle, spread = p + z * z / (2 * total), z * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2))
    return (middle - spread) / (1 + z * z / total), (middle + spread) / (1 + z * z / total)


def faults(verdicts: Sequence[str]) -> str:
    """How often each fault came first, most frequent first."""
    counts = {kind: verdicts.count(kind) for kind in set(verdicts) - {VALID}}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {kind}" for kind, count in ordered) or "–"


def _from_json(text: str) -> Plan:
    return Plan.model_validate(json.loads(text))
