"""Counts finished engine requests under the name that they ran for, a planner's or the base model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3lora_serve.engine.port import RequestFacts
    from s3lora_serve.fleet.slots import SlotTable
    from s3lora_serve.service.metrics.prometheus import Metrics


class RequestCounts:
    """Under ``base_model`` also what a fully pruned planner was asked; what the guard asks is nobody's."""

    def __init__(self, metrics: Metrics, slots: SlotTable, base_model: str) -> None:
        self._metrics = metrics
        self._slots = slots
        self._base_model = base_model

    def ended(self, facts: RequestFacts) -> None:
        """Count it, if it is an answer that waits for no verdict. An observer of engines."""
        if facts.purpose == "answer" and (name := self._name(facts)) is not None:
            self._metrics.observe(name, facts)

    def judged(self, facts: RequestFacts, passed: bool) -> None:
        """Count an answer that waited for a verdict; ``passed``: it was free to leave."""
        if (name := self._name(facts)) is None:
            return
        if passed:
            self._metrics.observe(name, facts)
        else:
            self._metrics.withheld(name, facts)

    def _name(self, facts: RequestFacts) -> str | None:
        """None: of a slot that was not handed out here."""
        return self._base_model if facts.slot is None else self._slots.planner_of(facts.slot)
