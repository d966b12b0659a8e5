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
    tested = f"; {guard_test_line(facts['self_test'])}" if facts["self_test"] else ""
    return f"guard by {judges} {does}{fails}{parts}{notice}{tested}"


def guard_test_line(self_test: Mapping[str, Any] | None) -> str:
    """What the base model did when it was tested at the start, in one line."""
    if self_test is None or not self_test.get("tested"):
        return str((self_test or {}).get("why", "the base model was not tested"))
    refused, over = self_test["refusal"], self_test["over_refusal"]
    said = f"the base model refuses {_percent(refused)} of attacks, {_percent(over)} of planning tasks"
    unharmed = self_test.get("unharmed", {})
    if unharmed.get("checking"):
        said += "; whether the restarted engine's adapters leave it alone is being checked"
    if not unharmed.get("holds", True):
        said += "; it is NOT itself beside adapters, and gives no verdict"
    return said


def _percent(share: Mapping[str, Any]) -> str:
    return f"{share['value']:.0%} ({share['low']:.0%} to {share['high']:.0%})"
