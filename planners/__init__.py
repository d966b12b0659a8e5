"""The planner contract: what a planner is asked, what it answers, and the grammar between."""

from planners.grammar.plan_grammar import plan_grammar
from planners.meta import Cost, ExamMark, GuardVerdict, PlanMeta, SsiSummary, Timings, Usage
from planners.plan import Plan
from planners.problems import Problem
from planners.prompts import render_messages
from planners.repair.repair import Repaired, repair
from planners.request import PlanRequest
from planners.step import PlanStep
from planners.text.rewoo import parse, render
from planners.text.stream import PlanReader
from planners.text.syntax import PlanSyntaxError
from planners.tools import PlannerInput, ToolSpec

__all__ = [
    "Cost",
    "ExamMark",
    "GuardVerdict",
    "Plan",
    "PlanMeta",
    "PlanReader",
    "PlanRequest",
    "PlanStep",
    "PlanSyntaxError",
    "PlannerInput",
    "Problem",
    "Repaired",
    "SsiSummary",
    "Timings",
    "ToolSpec",
    "Usage",
    "parse",
    "plan_grammar",
    "render",
    "render_messages",
    "repair",
]
