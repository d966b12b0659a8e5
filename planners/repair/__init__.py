"""Repairs of what a planner wrote without a grammar."""

from planners.repair.repair import Repaired, repair

__all__ = ["Repaired", "repair"]
