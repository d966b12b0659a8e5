"""A plan in the answer to a chat request, read while it passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from planners import Problem
from s3lora_serve.serving.plan_verdict import broken, is_cut, judged

if TYPE_CHECKING:
    from planners import PlannerInput


class PlanText:
    """The text of one answer, whole or in chunks, and the plan that it is once it has ended."""

    def __init__(self, request: PlannerInput) -> None:
        self._request = request
        self._text: list[str] = []
        self._finish: str | None = None
        self.valid = False  # whether a valid plan was found

    def hear(self, data: dict[str, Any]) -> None:
        """Take in an answer, or a chunk of one, as the engine's application writes it."""
        for choice in data.get("choices") or ():
            said = choice.get("message") or choice.get("delta") or {}
            self._text.append(said.get("content") or "")
            self._finish = choice.get("finish_reason") or self._finish

    def found(self) -> dict[str, Any]:
        """``plan``, or ``problems`` when the answer was cut off. Raises EngineError for any other defect."""
        if is_cut(self._finish):
            cut = Problem(
                kind="truncated",
                step=None,
                message=f"the answer was cut off (finish_reason {self._finish!r});"
                " allow more tokens, or ask for fewer steps",
            )
            return {"problems": [cut.model_dump()]}
        plan, problems = judged("".join(self._text), self._request)
        if plan is None:
            raise broken(str(problems[0]))
        self.valid = True
        return {"plan": plan.model_dump(mode="json", exclude_none=True)}
