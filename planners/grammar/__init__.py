"""The grammar under which a planner can only write valid plans."""

from planners.grammar.plan_grammar import MAX_TEXT, plan_grammar

__all__ = ["MAX_TEXT", "plan_grammar"]
