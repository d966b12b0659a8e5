"""The guard of one chat or completion."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.safety.guard.plan_question import plan_question
from s3lora_serve.server.openai.fields.steering_fields import priority_of
from s3lora_serve.server.openai.guarded.chat_question import questions_of
from s3lora_serve.server.openai.guarded.guard_fields import KNOWN, refuse, slip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3lora_serve.fleet.planner import Planner
    from s3lora_serve.safety.guard.guard_question import GuardQuestion
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.safety.guard.guards import Guards
    from s3lora_serve.server.openai.checked_request import CheckedRequest


def request_guard(
    guards: Guards, planner: Planner, asked: CheckedRequest, *, chat: bool, caller: str, request_id: str
) -> Guarding | None:
    """Its guard, None where none applies. Raises RequestRefused for a field that would slip past.

    Where answers are only observed, such a field makes the request one that the guard cannot judge.
    """
    if not guards.judges(planner.name, caller):
        return None
    fields = asked.as_chat
    if asked.plan is not None:  # the grammar is ours
        fields = {name: value for name, value in fields.items() if name != "structured_outputs"}
    found = slip(fields, chat=chat)
    if found is not None and guards.refuses(planner.name, caller):
        raise refuse(planner.name, asked.named(found[0]), found[1])
    if asked.plan is not None:
        questions: Sequence[GuardQuestion] = (plan_question(asked.plan, planner.tools),)
    else:
        questions = questions_of(asked.as_chat, chat=chat)
    first, *more = questions
    if found is not None:
        # Logs have this, and nothing else of what a client made up.
        name = f"the field {found[0]!r}" if found[0] in KNOWN else "a field that is not known here"
        first = replace(first, unreadable=name)
    priority = priority_of(asked.fields)
    return guards.guarding(planner.name, first, caller, request_id, more=more, priority=priority)
