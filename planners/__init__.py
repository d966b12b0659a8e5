"""The planner contract: what a planner is asked, what it answers, and the grammar between."""

from planners.grammar import plan_grammar
from planners.meta import Cost, PlanMeta, SsiSummary, Timings, Usage
from planners.plan import Plan, PlanStep, Problem
from planners.prompts import render_messages
from planners.request import PlanRequest
from planners.rewoo import PlanSyntaxError, parse, render
from planners.tools import PlannerInput, ToolSpec

__all__ = [
    "Cost",
    "Plan",
    "PlanMeta",
    "PlanRequest",
    "PlanStep",
    "PlanSyntaxError",
    "PlannerInput",
    "Problem",
    "SsiSummary",
    "Timings",
    "ToolSpec",
    "Usage",
    "parse",
    "plan_grammar",
    "render",
    "render_messages",
]
