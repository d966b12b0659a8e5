"""What a planner in LangChain may be asked with, and the client's arguments that it becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.messages import MessageLikeRepresentation
from langchain_core.prompt_values import PromptValue
from pydantic import BaseModel, ConfigDict, RootModel

from planners.langchain.task_text import task_of
from planners.langchain.tool_conversion import tool_specs
from planners.request import PlanRequest
from planners.tools import PlannerInput

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

PlanQuestion = PlannerInput | dict[str, Any] | str | PromptValue | Sequence[MessageLikeRepresentation]
_TASKS = ("task", "input", "messages")


class PlannerTask(PlanRequest):
    """A task with whatever else it needs; what is left out is the runnable's, or else the server's."""

    planner: str | None = None  # type: ignore[assignment]
    session: str | None = None


class ChainInput(BaseModel):
    """A task as chains name it; what ``PlannerTask`` has may stand beside it."""

    model_config = ConfigDict(extra="allow")

    input: str


class S3LoRAPlannerInput(RootModel[PlannerTask | ChainInput | str]):
    """A task as text, or with tools and more. Messages and the values of prompt templates are taken, too."""


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
        asked |= _named(question)
    elif (task := task_of(question)) is not None:
        asked["task"] = task
    else:
        raise TypeError(
            f"a planner was asked with a {type(question).__name__}; give the task as text, as messages, as a"
            ' PlannerInput, or a dict with "task" or "input"'
        )
    asked |= {name: value for name, value in bound.items() if value is not None}
    if asked.get("tools") is not None:
        asked["tools"] = tool_specs(asked["tools"])
    if "task" not in asked:
        raise ValueError(f'there is no "task" in the question, only {", ".join(map(repr, asked))}')
    return asked


def _named(question: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a question; its task may be called "input", as chains do, or "messages", as agents do."""
    fields = {name: value for name, value in question.items() if value is not None}
    tasks = [name for name in _TASKS if name in fields]
    if len(tasks) > 1:
        raise ValueError(f"the question has {' and '.join(map(repr, tasks))}; give the task once")
    if tasks:
        given = fields.pop(tasks[0])
        if (task := task_of(given)) is None:
            raise TypeError(f"{tasks[0]!r} is a {type(given).__name__}; give the task as text or messages")
        fields["task"] = task
    return fields


def added(whole: Any, part: Any) -> Any:
    """Chunks of a question as LangChain adds them: the last one, where they cannot be added."""
    if whole is None:
        return part
    try:
        return whole + part
    except TypeError:
        return part
