"""What an order assumes of the fleet: the revision that it expects to serve, the one that it goes back to"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.errors import Conflict

if TYPE_CHECKING:
    from s3lora_serve.control.operation import Order
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.planner import Alias

_SHORTEST_PREFIX = 8  # hex digits; fewer could name several revisions


def alias_as_expected(fleet: Fleet, name: str, order: Order) -> Alias:
    """What the name means now. Raises UnknownPlanner, and Conflict if the order expects another revision."""
    alias = fleet.alias(name)
    serving = fleet[alias.active].revision.digest
    expected = order.expected
    if expected is not None and (len(expected) < _SHORTEST_PREFIX or not serving.startswith(expected)):
        short = len(expected) < _SHORTEST_PREFIX
        raise Conflict(
            f"planner {name!r} serves revision {serving}, not the expected {expected[:64]!r}",
            hint="give at least 8 digits" if short else "look at it again: s3lora status",
        )
    return alias


def rollback_goal(fleet: Fleet, alias: Alias, to: str | None) -> str:
    """The digest to go back to, or what the caller gave of it when no live deployment has it.

    Raises Conflict when there is none, or when it serves already.
    """
    serving = fleet[alias.active].revision.digest
    goal = to or alias.previous
    if goal is None:
        raise Conflict(
            f"planner {alias.name!r} has served no revision before {serving[:12]}",
            hint="name one: s3lora rollback --to; s3lora history shows them",
        )
    if len(goal) < _SHORTEST_PREFIX:
        raise Conflict(f"{goal!r} is too short for a revision", hint="give at least 8 digits")
    if serving.startswith(goal):
        raise Conflict(f"planner {alias.name!r} serves revision {serving[:12]} already")
    for deployment in fleet.of(alias.name):
        if deployment.revision.digest.startswith(goal):
            return deployment.revision.digest
    return goal
