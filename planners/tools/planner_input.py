"""One request for a plan: the task, the tools, and what is already known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticKnownError

from planners.arguments.arguments import grammar_parts
from planners.tools.tool_spec import ToolSpec, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from planners.arguments.arguments import Arguments

MAX_TOOLS = 256  # a server's own limit may be lower
MAX_STEPS = 32
MAX_TASK_CHARS = 32_000
MAX_FEEDBACK_CHARS = 500
MAX_EVIDENCE_CHARS = 8_000
MAX_FEEDBACK = 20
MAX_GRAMMAR_PARTS = 8_192  # of JSON arguments; they compile in about two seconds

_FeedbackText = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=MAX_FEEDBACK_CHARS), AfterValidator(printable)
]
_TaskText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TASK_CHARS),
    AfterValidator(printable),
]
_EvidenceText = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=MAX_EVIDENCE_CHARS), AfterValidator(printable)
]


class PlannerInput(BaseModel):
    """One request for a plan.

    ``evidence`` holds results that are already known, ``"#E1"`` to ``"#En"`` without a gap; the plan then
    continues at ``#E(n+1)`` and may use them. ``feedback`` names what was wrong with an earlier answer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: _TaskText
    tools: Annotated[tuple[ToolSpec, ...], Field(min_length=1, max_length=MAX_TOOLS)]
    max_steps: Annotated[int, Field(strict=True, ge=1, le=MAX_STEPS)] = 8
    evidence: Annotated[dict[str, _EvidenceText], Field(max_length=MAX_STEPS)] = Field(default_factory=dict)
    feedback: Annotated[tuple[_FeedbackText, ...], Field(max_length=MAX_FEEDBACK)] = ()

    @field_validator("tools", "evidence", "feedback", mode="before")
    @classmethod
    def _few(cls, given: Any, info: ValidationInfo) -> Any:
        # Before the entries are looked at: pydantic would name what is wrong with each of a million.
        most = {"tools": MAX_TOOLS, "evidence": MAX_STEPS, "feedback": MAX_FEEDBACK}[info.field_name or ""]
        if isinstance(given, list | tuple | dict) and len(given) > most:
            kind = "Dictionary" if isinstance(given, dict) else "Tuple"
            raise PydanticKnownError(
                "too_long", {"field_type": kind, "max_length": most, "actual_length": len(given)}
            )
        return given

    @field_validator("tools")
    @classmethod
    def _distinct(cls, tools: tuple[ToolSpec, ...]) -> tuple[ToolSpec, ...]:
        names = [tool.name for tool in tools]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"tool {twice[0]!r} is offered {names.count(twice[0])} times; give each tool its own name"
            )
        return tools

    @field_validator("evidence")
    @classmethod
    def _contiguous(cls, evidence: dict[str, str]) -> dict[str, str]:
        wanted = [f"#E{n}" for n in range(1, len(evidence) + 1)]
        if odd := [key for key in evidence if key not in wanted]:
            raise ValueError(
                f"evidence {odd[0]!r}: {len(evidence)} results are called {_span(wanted)}, without a gap"
            )
        return {key: evidence[key] for key in wanted}

    @model_validator(mode="after")
    def _bounded(self) -> PlannerInput:
        check_grammar_parts((tool.arguments for tool in self.tools), self.max_steps)
        return self

    @property
    def first_step(self) -> int:
        """Number of the first step to plan: 1, or one more than the evidence given."""
        return len(self.evidence) + 1


def check_grammar_parts(tools: Iterable[Arguments | None], max_steps: int) -> None:
    """Raise ValueError if a grammar for what the tools take, in so many steps, would take long to compile."""
    parts = grammar_parts((arguments for arguments in tools if arguments is not None), max_steps)
    if parts > MAX_GRAMMAR_PARTS:
        raise ValueError(
            f"the parameters of the tools, in {max_steps} steps, make a grammar of {parts} parts, over the "
            f"limit of {MAX_GRAMMAR_PARTS}; offer fewer tools with parameters, or ask for fewer steps"
        )


def _span(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
