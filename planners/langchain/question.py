"""What a planner in LangChain may be asked with, and the client's arguments that it becomes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import RootModel

from planners.langchain.tool_conversion import tool_specs
from planners.request import PlanRequest
from planners.tools import PlannerInput

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

PlanQuestion = PlannerInput | dict[str, Any] | str


class PlannerTask(PlanRequest):
    """A task with whatever else it needs; what is left out is the runnable's, or else the server's."""

    planner: str | None = None  # type: ignore[assignment]
    session: str | None = None


class S3LoRAPlannerInput(RootModel[PlannerTask | str]):
    """A task as text, or with tools and more."""


def asked_with(
    own: Mapping[str, Any], question: Any, bound: Mapping[str, Any], config: RunnableConfig
) -> dict[str, Any]:
    """The client's arguments: the runnable's own, under the question's, under those bound to the call.

    A thread of LangGraph is a session. Raises TypeError for what is no question, ValueError without a task.
    """
    asked = dict(own)
    if "session" not in asked and (thread := (config.get("configurable") or {}).get("thread_id")):
        asked["session"] = str(thread)
    if isinstance(question, PlannerInput):
        asked |= {name: getattr(question, name) for name in question.model_fields_set}
    elif isinstance(question, Mapping):
        asked |= {name: value for name, value in question.items() if value is not None}
    elif isinstance(question, str):
        asked["task"] = question
    else:
        raise TypeError(
            f"a planner was asked with a {type(question).__name__}; give the task as text, a PlannerInput, or"
            ' a dict with "task"'
        )
    asked |= {name: value for name, value in bound.items() if value is not None}
    if asked.get("tools") is not None:
        asked["tools"] = tool_specs(asked["tools"])
    if "task" not in asked:
        raise ValueError(f'there is no "task" in the question, only {", ".join(map(repr, asked))}')
    return asked


def added(whole: Any, part: Any) -> Any:
    """Chunks of a question as LangChain adds them: the last one, where they cannot be added."""
    if whole is None:
        return part
    try:
        return whole + part
    except TypeError:
        return part
