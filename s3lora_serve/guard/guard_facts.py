"""What is told of a planner's guard: to clients, operators, and at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3lora_serve.config import GuardConfig


def guard_facts(
    settings: GuardConfig | None, self_test: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Who judges, and what follows; None without a guard. ``self_test``: what the base did at the start."""
    if settings is None or not settings.asks:
        return None
    host = None
    if "endpoint" in settings.by and settings.endpoint is not None:
        host = settings.endpoint.host
    return {
        "by": list(settings.by),
        "action": settings.action,
        "fail": settings.fail,
        "observe_parts": list(settings.observe_parts),
        "endpoint": host,
        "notice": None if host is None else f"sends every task to {host}",
        "self_test": dict(self_test) if self_test is not None and "base" in settings.by else None,
    }


def guard_line(facts: Mapping[str, Any] | None) -> str:
    """The same in one line."""
    if facts is None:
        return "no guard"
    judges = " and ".join("its base model" if by == "base" else f"{facts['endpoint']}" for by in facts["by"])
    does = "refuses" if facts["action"] == "refuse" else "observes"
    parts = f", only counts refusals of {', '.join(facts['observe_parts'])}" if facts["observe_parts"] else ""
    fails = f", fails {facts['fail']}" if facts["action"] == "refuse" else ""
    notice = f"; {facts['notice']}" if facts["notice"] else ""
    return f"guard by {judges} {does}{fails}{parts}{notice}"
