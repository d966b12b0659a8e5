"""JSON arguments of tools: the part of JSON Schema that decoding can enforce."""

from planners.arguments.arguments import Arguments, grammar_parts

__all__ = ["Arguments", "grammar_parts"]
