"""What can be mended of a plan that is not valid, with a note for each change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planners.plan import Plan
from planners.problems import Problem

if TYPE_CHECKING:
    from planners.tools import PlannerInput


@dataclass(frozen=True)
class Repaired:
    """A plan, what was mended, and what is still wrong."""

    plan: Plan
    repairs: int
    notes: tuple[str, ...]
    problems: tuple[Problem, ...]


def repair(text: str, request: PlannerInput) -> Repaired:
    """Not written yet: mends nothing."""
    problem = Problem(kind="empty", step=None, message="there is no plan")
    return Repaired(Plan(steps=()), 0, (), (problem,))
