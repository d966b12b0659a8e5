"""The grammar under which a planner can only write valid plans."""

from planners.grammar.argument_lengths import check_argument_chars
from planners.grammar.plan_grammar import MAX_TEXT, plan_grammar

__all__ = ["MAX_TEXT", "check_argument_chars", "plan_grammar"]
