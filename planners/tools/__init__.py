"""What a planner is asked: a task, the tools it may use, and what is already known."""

from planners.tools.planner_input import (
    MAX_EVIDENCE_CHARS,
    MAX_FEEDBACK,
    MAX_FEEDBACK_CHARS,
    MAX_GRAMMAR_PARTS,
    MAX_STEPS,
    MAX_TASK_CHARS,
    MAX_TOOLS,
    PlannerInput,
    check_grammar_parts,
)
from planners.tools.tool_spec import MAX_DESCRIPTION_CHARS, MAX_TOOL_NAME, NAME_RULE, TOOL_NAME, ToolSpec

__all__ = [
    "MAX_DESCRIPTION_CHARS",
    "MAX_EVIDENCE_CHARS",
    "MAX_FEEDBACK",
    "MAX_FEEDBACK_CHARS",
    "MAX_GRAMMAR_PARTS",
    "MAX_STEPS",
    "MAX_TASK_CHARS",
    "MAX_TOOLS",
    "MAX_TOOL_NAME",
    "NAME_RULE",
    "TOOL_NAME",
    "PlannerInput",
    "ToolSpec",
    "check_grammar_parts",
]
