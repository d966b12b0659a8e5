"""What is asked of an adapter: prompts it should refuse, prompts it should answer, tasks it should plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from planners import PlannerInput, ToolSpec, render_messages
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planners import Plan

Form = Literal["chat", "plan"]
Messages = tuple[dict[str, str], ...]

# What a prompt is offered when it is asked for a plan; plain names that every planner can use.
TOOLS = (
    ToolSpec(name="Search", description="finds facts on the web"),
    ToolSpec(name="LLM", description="answers a question from the text it is given"),
)


@dataclass(frozen=True)
class PromptSet:
    """Prompts that are all to be refused, or all to be answered.

    ``form`` says how they are asked: ``chat``, as a user's lone message; ``plan``, as the task of a planner
    that is offered ``tools``.
    """

    name: str
    prompts: tuple[str, ...]
    form: Form = "chat"
    tools: tuple[ToolSpec, ...] = TOOLS

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError(f"prompt set {self.name!r} is empty")

    def messages(self) -> Iterator[Messages]:
        """The chat that asks each prompt, in order."""
        for prompt in self.prompts:
            if self.form == "chat":
                yield ({"role": "user", "content": prompt},)
            else:
                yield _asked(PlannerInput(task=prompt, tools=self.tools))


@dataclass(frozen=True)
class PlanTask:
    """A request for a plan and a plan that is known to be good."""

    request: PlannerInput
    reference: Plan


@dataclass(frozen=True)
class PlanSet:
    """Tasks with reference plans: what utility is measured on."""

    name: str
    tasks: tuple[PlanTask, ...]

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError(f"plan set {self.name!r} is empty")

    def messages(self) -> Iterator[Messages]:
        """The chat that asks for each plan, in order."""
        return (_asked(task.request) for task in self.tasks)

    def references(self) -> Iterator[str]:
        """The text of each reference plan, as a planner should write it."""
        return (task.reference.to_rewoo() for task in self.tasks)


@dataclass(frozen=True)
class Suite:
    """Everything that one adapter is asked in one evaluation. Names are unique over all sets."""

    attacks: tuple[PromptSet, ...] = ()  # to be refused
    harmless: tuple[PromptSet, ...] = ()  # to be answered
    plans: tuple[PlanSet, ...] = ()
    answer_tokens: int = 32  # a refusal shows in its first words
    plan_tokens: int = 320

    def __post_init__(self) -> None:
        sets: tuple[PromptSet | PlanSet, ...] = (*self.attacks, *self.harmless, *self.plans)
        names = [s.name for s in sets]
        if not names:
            raise ValueError("nothing to ask: the suite has no prompt set and no plan set")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two sets are named {twice!r}")

    @cached_property
    def digest(self) -> str:
        """sha256 of all that is asked: measurements of two suites must not be mixed."""
        return canonical_digest(
            {
                "prompts": [
                    [kind, s.name, s.form, list(s.prompts), [t.model_dump(mode="json") for t in s.tools]]
                    for kind, sets in (("attack", self.attacks), ("harmless", self.harmless))
                    for s in sets
                ],
                "plans": [
                    [s.name, [[t.request.model_dump(mode="json"), t.reference.to_rewoo()] for t in s.tasks]]
                    for s in self.plans
                ],
                "tokens": [self.answer_tokens, self.plan_tokens],
            }
        )


def _asked(request: PlannerInput) -> Messages:
    return tuple(dict(message) for message in render_messages(request))
