"""What an answer of the OpenAI endpoints says of itself: planner, revision, fingerprint and cost."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.server.openai.fields.stream_usage import UsageAt
from s3lora_serve.server.sse import data_of, written
from s3lora_serve.serving.answer_meta import cost_of, exam_of, fingerprint, summary_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from planners import Cost
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import EngineKind, RequestFacts
    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.safety.guard.guarding import Guarding
    from s3lora_serve.server.openai.plan_text import PlanText

# Inside a JSON text every quote is escaped, so neither can be part of what a model wrote.
_LAST = re.compile(rb'"choices":\s*\[\]')
_FINISH = re.compile(rb'"finish_reason":\s*"')
_MARKED = b'"system_fingerprint"'
_USAGE = re.compile(rb'"usage":')


@dataclass(frozen=True)
class Origin:
    """What answers: planner, revision, role and engine."""

    model: str  # as clients know it
    engine_model: str  # as the engine does
    fingerprint: str
    about: Mapping[str, Any]  # the ``s3lora`` object of an answer
    revision: Revision | None  # None: the base model under its own name

    @classmethod
    def of(cls, lease: Lease | None, base_model: str, engine: EngineKind) -> Origin:
        """The leased deployment, or without a lease the base model."""
        if lease is None:
            about: dict[str, Any] = {"base_model": base_model, "engine": engine, "served_by": "base"}
            return cls(base_model, base_model, fingerprint(engine, base_model, None), about, None)
        planner, revision = lease.deployment.planner, lease.deployment.revision
        about = {
            "planner": planner,
            "revision": revision.digest,
            "role": lease.role,
            "base_model": base_model,
            "engine": engine,
            "served_by": lease.deployment.served_by,
            "ssi": summary_of(revision).model_dump(exclude_none=True),
            "kept_modules": revision.lineage.kept,
            "pruned_modules": list(revision.lineage.pruned),
        }
        if (exam := exam_of(lease.deployment)) is not None:
            about["exam"] = exam.model_dump()
        return cls(planner, lease.model, fingerprint(engine, base_model, revision.digest), about, revision)


class Stamp:
    """Writes origin and cost into one answer, and parses as little of it as possible.

    ``facts`` fills up while the engine works. With ``plan`` the answer is read as one. ``guarding`` is the
    request's guard, which has passed it. ``usage`` is where a stream has what is known at its end: the engine
    sends it in a chunk without choices, after the one with the last finish_reason, which waits for it here
    unless the client asked for a chunk of its own.
    """

    def __init__(
        self,
        origin: Origin,
        facts: Sequence[RequestFacts],
        plan: PlanText | None = None,
        guarding: Guarding | None = None,
        usage: UsageAt = UsageAt.FINISH,
    ) -> None:
        self._origin = origin
        self._facts = facts
        self._plan = plan
        self._guarding = guarding
        self._usage = usage
        self._held = b""  # the event with a finish_reason, until it is known whether it is the last
        names = {"model": origin.model, "system_fingerprint": origin.fingerprint}
        self._names = names
        self._written = json.dumps(names)[1:-1].encode()
        self._pattern = re.compile(rb'"model":\s*' + re.escape(json.dumps(origin.engine_model).encode()))

    @property
    def begun(self) -> bool:
        """Whether the engine has worked on it."""
        return bool(self._facts)

    def event(self, event: bytes) -> bytes:
        """One event of a stream, stamped, with one that was held before it, or nothing while it is held.

        Raises EngineError when the plan in it is none.
        """
        if self._plan is not None and (data := data_of(event)) is not None:
            self._plan.hear(data)
        if _LAST.search(event) and (data := data_of(event)) is not None:
            return self._end(data)
        if self._usage is not UsageAt.OWN and _FINISH.search(event):
            before, self._held = self.rest(), event
            return before
        return self.rest() + self._named(event)

    def rest(self) -> bytes:
        """What is held, as it is where nothing more comes."""
        held, self._held = self._held, b""
        return self._named(held) if held else b""

    def _end(self, data: dict[str, Any]) -> bytes:
        """The engine's last chunk where the client reads it: on the chunk that was held, or as it is."""
        held = data_of(self._held)
        self._held = b""
        sealed = self._seal({**held, "usage": data.get("usage")} if held is not None else data)
        if self._usage is UsageAt.NOWHERE:
            sealed.pop("usage", None)
        return written(sealed)

    def _named(self, event: bytes) -> bytes:
        """One event with the public names; beside a usage chunk the others have usage, too, which is null."""
        empty = self._usage is UsageAt.OWN and not _USAGE.search(event)
        if _MARKED not in event and (match := self._pattern.search(event)):
            null = b', "usage": null' if empty else b""
            return event[: match.start()] + self._written + null + event[match.end() :]
        if (data := data_of(event)) is None:
            return event
        return written({**data, **self._names, **({"usage": None} if empty else {})})

    def whole(self, body: bytes) -> bytes:
        """An answer that is not streamed, stamped. Raises EngineError when the plan in it is none."""
        try:
            data = json.loads(body)
        except ValueError:
            return body
        if not isinstance(data, dict):
            return body
        return json.dumps(self._sealed_whole(data), ensure_ascii=False, separators=(",", ":")).encode()

    def error(self, message: str, body: Mapping[str, Any]) -> bytes:
        """The event that ends a stream with an error; ``body`` is what an answer by itself would be."""
        return written(body)

    def _sealed_whole(self, data: dict[str, Any]) -> dict[str, Any]:
        if self._plan is not None:
            self._plan.hear(data)
        return self._seal(data)

    def _seal(self, data: dict[str, Any]) -> dict[str, Any]:
        """An answer, or the last chunk of one, with all there is to say of it."""
        found = self._plan.found() if self._plan is not None else {}
        guarding = self._guarding
        if guarding is not None:
            found["guard"] = guarding.about()
        stamped = {**data, **self._names, "s3lora": {**self._origin.about, **found}}
        tokens = guarding.tokens if guarding is not None else None
        cost = cost_of(self._facts, self._origin.revision, tokens) if self._facts else None
        if cost is not None:
            stamped["cost"] = cost.model_dump(exclude_none=True)
        if isinstance(usage := data.get("usage"), dict):
            more = {"cost": whole_cost(cost)} if cost is not None else {}
            # All of it in one object: OpenRouter's usage has a ``cost``, too, a number that clients add up.
            stamped["usage"] = {**usage, "s3lora": {**tally(self._origin.about), **more}}
        return stamped


def whole_cost(cost: Cost) -> dict[str, int]:
    """The cost in whole numbers, times in microseconds, for ``usage``: clients add up all that is in there.

    ChatOpenAI warns of every other type when it does (langchain_openai's ``_update_token_usage``).
    """
    return {
        name.replace("_seconds", "_microseconds"): round(value * 1e6) if name.endswith("_seconds") else value
        for name, value in cost.model_dump(exclude_none=True).items()
    }


def tally(about: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Who answered, counted, for ``usage``: ``{"revision": {"3f2a...": 1}}`` stays right when added up."""
    kinds = ("planner", "revision", "role", "base_model", "engine", "served_by")
    return {kind: {about[kind]: 1} for kind in kinds if kind in about}
