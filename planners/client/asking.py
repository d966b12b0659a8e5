"""What a client sends: who is asked where, and the body of one planning request."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import quote, urlsplit

from pydantic import BaseModel

from planners.grammar.plan_grammar import MAX_TEXT
from planners.loopback import is_loopback
from planners.request import LEAST_TEXT, PlanRequest
from planners.tools import PlannerInput, ToolSpec

if TYPE_CHECKING:
    from planners.plan import Plan

DEFAULT_URL = "http://127.0.0.1:8000"
URL_ENV, KEY_ENV = "S3LORA_BASE_URL", "S3LORA_API_KEY"
# A model: a tool of the package mcp, as ``session.list_tools()`` gives it.
ToolLike = ToolSpec | Mapping[str, Any] | BaseModel | str
_SHORTER = 2  # how often a plan that was cut off is asked for again, in half the size each time


class Asking(TypedDict, total=False):
    """How to plan; what is left out, or None, is the server's default. See ``PlanRequest``.

    ``session`` names an agent's episode, whose requests stay on one revision while it is offered.
    ``repair``: the server may repair a plan, this client ask for a shorter one; ``meta.repairs`` counts both.
    """

    planner: str | None
    max_steps: int | None
    evidence: Mapping[str, str] | None
    feedback: Sequence[str] | None
    temperature: float | None
    seed: int | None
    constraint: Literal["grammar", "none"] | None
    repair: bool | None
    max_text: int | None
    revision: str | None
    session: str | None


@dataclass(frozen=True)
class Endpoint:
    """A server, and the key that it wants; the key is in no repr."""

    url: str
    _key: str | None

    @classmethod
    def of(cls, base_url: str | None, api_key: str | None) -> Endpoint:
        """Both default to the environment. ``base_url`` may end in /v1. Raises ValueError for no address."""
        url = (base_url or os.environ.get(URL_ENV) or DEFAULT_URL).strip().rstrip("/").removesuffix("/v1")
        try:
            parts = urlsplit(url)
            _ = parts.port  # raises ValueError unless it is a number of a port
            valid = (
                parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.fragment)
            )
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"base_url {url[:200]!r} is not an address; write one such as {DEFAULT_URL}/v1")
        if parts.username is not None:
            raise ValueError("base_url holds a user name or a password; give the key as api_key")
        key = (api_key if api_key is not None else os.environ.get(KEY_ENV, "")).strip()
        if not key.isascii():
            raise ValueError(
                "api_key holds characters beyond ASCII, which no header can; was it pasted whole?"
            )
        return cls(url.rstrip("/"), key or None)

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r}, api_key={'***' if self._key else None})"

    @property
    def headers(self) -> dict[str, str]:
        """What proves who asks."""
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it."""
        return is_loopback(urlsplit(self.url).hostname or "")


@dataclass(frozen=True)
class Question:
    """One planning request as it is sent. ``notes`` say how it was made shorter than what was asked for."""

    request: PlanRequest
    session: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        task: PlannerInput | str,
        tools: Sequence[ToolLike] | None,
        planner: str | None,
        asking: Mapping[str, Any],
    ) -> Question:
        """What is given by name goes before what ``task`` holds; ``planner`` is the client's own.

        Raises ValueError (pydantic's) for what the contract does not allow.
        """
        fields: dict[str, Any] = {"planner": planner}
        if isinstance(task, PlannerInput):
            fields |= {name: getattr(task, name) for name in task.model_fields_set}
        else:
            fields["task"] = task
        fields |= {name: value for name, value in asking.items() if value is not None}
        if tools is not None:
            fields["tools"] = [_tool(tool) for tool in tools]
        session = fields.pop("session", None)
        if not fields["planner"]:
            raise ValueError("no planner was named; give planner=, client.planners() lists them")
        return cls(PlanRequest.model_validate(fields), session)

    def body(self, *, stream: bool) -> dict[str, Any]:
        """Only what was given: all else is for the server to decide."""
        given = self.request.model_dump(mode="json", exclude_unset=True)
        return {**given, "stream": True} if stream else {k: v for k, v in given.items() if k != "stream"}

    @property
    def headers(self) -> dict[str, str]:
        """The session, in the characters that a header may have."""
        return {"x-s3lora-session": quote(self.session, safe="!#$&'()*+,/:;=?@[] ")} if self.session else {}

    def shorter(self) -> Question | None:
        """The same for half the steps and half the text, when ``repair`` allows it; None when it does not.

        The server's own repair keeps the whole steps of a plan that was cut off. Where not one was whole,
        fewer and shorter steps are what is left to try.
        """
        steps, text = self.request.max_steps, self.request.max_text or MAX_TEXT
        less = {"max_steps": max(steps // 2, 1), "max_text": max(text // 2, LEAST_TEXT)}
        if (
            not self.request.repair
            or len(self.notes) == _SHORTER
            or less == {"max_steps": steps, "max_text": text}
        ):
            return None
        count = f"{less['max_steps']} step{'s' if less['max_steps'] > 1 else ''}"
        note = f"asked again for at most {count} of {less['max_text']} characters, since the plan was cut off"
        return replace(self, request=self.request.model_copy(update=less), notes=(*self.notes, note))

    def noted(self, plan: Plan) -> Plan:
        """The plan, whose meta counts and names what was done to get it."""
        if plan.meta is None or not self.notes:
            return plan
        update = {
            "repairs": plan.meta.repairs + len(self.notes),
            "repair_notes": (*self.notes, *plan.meta.repair_notes),
        }
        return plan.model_copy(update={"meta": plan.meta.model_copy(update=update)})


def _tool(given: ToolLike) -> Any:
    if isinstance(given, str):
        return ToolSpec(name=given)
    if isinstance(given, BaseModel) and not isinstance(given, ToolSpec):
        return given.model_dump(mode="json", by_alias=True, exclude_none=True)
    return given
