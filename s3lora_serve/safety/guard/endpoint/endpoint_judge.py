"""A guard model or a moderation route elsewhere as a judge of requests."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from s3lora_serve.safety.guard.allowance import MOST_TOGETHER, Allowance
from s3lora_serve.safety.guard.endpoint.guard_formats import guard_format
from s3lora_serve.safety.guard.endpoint.text_windows import text_windows
from s3lora_serve.safety.guard.guard_question import Part
from s3lora_serve.safety.guard.ruling import Found, Ruling, too_many
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.safety.guard.endpoint.guard_route import GuardRoute
    from s3lora_serve.safety.guard.guard_question import GuardQuestion, Passage

AT_ONCE = 8  # windows of one request that are asked about at the same time
MOST = 64  # windows of one request that are asked about: each may cost money
NAMING = 16  # windows that are asked about to name the part of a refusal, at most


class Remembered(Protocol):
    """Verdicts of the last minutes; ``verdict_cache.VerdictCache`` is one."""

    async def once(self, key: str, ask: Callable[[], Coroutine[Any, Any, Ruling]]) -> tuple[Ruling, bool]:
        """What was found under the key, or is found by asking, and whether another had asked.

        What ``ask`` raises is never kept.
        """
        ...


class _NoVerdict(Exception):
    """Nothing to keep: the next request asks again."""

    def __init__(self, ruling: Ruling) -> None:
        super().__init__(ruling.finding)
        self.ruling = ruling


@dataclass(frozen=True)
class _Heard:
    """What the endpoint said of some texts together."""

    finding: Found
    why: str = ""
    read: int = 0  # tokens
    wrote: int = 0


_TOO_MANY = _Heard(Found.UNDECIDED, too_many(MOST, MOST_TOGETHER, "the endpoint"))


class EndpointJudge:
    """Asks about the task alone and, where a request has more than that, about all of it in the fixed frame.

    The task alone too, since what stands around it is the client's to choose and could talk a guard model
    round; and without the parts under ``observe_parts``, so that these neither cause a refusal nor hide one.
    What is longer than ``endpoint.window_chars`` is asked about in windows that overlap; with more than
    ``MOST`` there is no verdict. One refusal refuses.

    A guard model does not say what its refusal is about: it is the task if that alone is refused, else the
    first part that alone is refused. Where it is only the parts together, or too much to find out, the task
    is named.
    """

    name: Literal["endpoint"] = "endpoint"

    def __init__(
        self,
        settings: GuardConfig,
        route: GuardRoute,
        framed: Callable[[str, Sequence[Passage]], str],
        remembered: Remembered | None = None,
    ) -> None:
        """``framed`` makes one text of the task and all passages; without ``remembered`` it asks anew."""
        assert settings.endpoint is not None, "settings by: endpoint have one"
        self._route = route
        self._framed = framed
        self._format = guard_format(settings.endpoint)
        self._window = settings.endpoint.window_chars
        self._observed = frozenset(Part(part) for part in settings.observe_parts)
        self._remembered = remembered
        self._settings = canonical_digest(
            [settings.endpoint.model_dump(mode="json"), sorted(settings.observe_parts)]
        )

    async def rule(
        self,
        question: GuardQuestion,
        caller: str,
        request_id: str,
        priority: int = 0,
        allowance: Allowance | None = None,
    ) -> Ruling:
        """Judge one request. Raises nothing but cancellation, which closes the connections that it uses.

        ``priority`` is the engine's affair, and none of an endpoint.
        """
        began, allowance = time.monotonic(), allowance or Allowance()
        if self._remembered is None:
            ruling, known = await self._asked(question, allowance), False
        else:
            key = canonical_digest([self._settings, question.digest, caller])
            try:
                ruling, known = await self._remembered.once(key, lambda: self._verdict(question, allowance))
            except _NoVerdict as none:
                ruling, known = none.ruling, False
        seconds = time.monotonic() - began
        if known:
            return replace(ruling, cached=True, prompt_tokens=0, output_tokens=0, seconds=seconds)
        return replace(ruling, seconds=seconds)

    async def _verdict(self, question: GuardQuestion, allowance: Allowance) -> Ruling:
        ruling = await self._asked(question, allowance)
        if ruling.finding not in (Found.ALLOWED, Found.REFUSED):
            raise _NoVerdict(ruling)
        return ruling

    async def _asked(self, question: GuardQuestion, allowance: Allowance) -> Ruling:
        kept = [each for each in question.passages if each.part not in self._observed]
        texts = (
            question.task,
            self._framed(question.task, kept) if kept else "",
            self._framed(question.task, question.passages) if len(kept) < len(question.passages) else "",
        )
        task, deciding, whole = await self._each(texts, allowance)
        heard = [task, deciding, whole]
        if refused := next((each for each in (task, deciding) if each.finding is Found.REFUSED), None):
            part = Part.TASK
            if kept and (refused is deciding or part in self._observed):
                part, naming = await self._named(kept, allowance)
                heard.append(naming)
            return self._ruling(refused, part, heard)
        if (decided := _worst([task, deciding])).finding is not Found.ALLOWED:
            return self._ruling(decided, None, heard)
        observed = next((each.part for each in question.passages if each.part in self._observed), None)
        return self._ruling(whole, None if whole.finding is Found.FAILED else observed, heard)

    def _ruling(self, found: _Heard, part: Part | None, heard: Iterable[_Heard]) -> Ruling:
        read, wrote = (sum(tokens) for tokens in zip(*((h.read, h.wrote) for h in heard), strict=True))
        part = None if found.finding is Found.ALLOWED else part
        return Ruling(found.finding, self.name, part, found.why, read, wrote)

    async def _named(self, passages: Sequence[Passage], allowance: Allowance) -> tuple[Part, _Heard]:
        """The part that a refusal of all of them is about, and what it took to find out."""
        texts: dict[Part, str] = {}
        for each in passages:
            texts[each.part] = f"{texts.get(each.part, '')}{each.title}:\n{each.text}\n\n"
        if sum(len(text_windows(text, self._window)) for text in texts.values()) > NAMING:
            return Part.TASK, _Heard(Found.ALLOWED)
        found = await self._each(tuple(texts.values()), allowance)
        refused = (part for part, one in zip(texts, found, strict=True) if one.finding is Found.REFUSED)
        read, wrote = sum(one.read for one in found), sum(one.wrote for one in found)
        return next(refused, Part.TASK), _Heard(Found.ALLOWED, "", read, wrote)

    async def _each(self, texts: Sequence[str], allowance: Allowance) -> list[_Heard]:
        """What is said of each text. All windows of all texts are asked about together, a few at a time."""
        places, left = asyncio.Semaphore(AT_ONCE), MOST

        async def one(text: str) -> _Heard:
            async with places:
                return await self._one(text)

        asked: list[tuple[list[asyncio.Task[_Heard]], bool]] = []
        async with asyncio.TaskGroup() as group:
            for text in texts:
                windows = text_windows(text, self._window) if text else []
                afforded = [each for each in windows[:left] if allowance.takes(canonical_digest(each))]
                tasks = [group.create_task(one(window)) for window in afforded]
                left -= len(tasks)
                asked.append((tasks, len(tasks) < len(windows)))
        return [_worst([*(task.result() for task in tasks), *[_TOO_MANY] * cut]) for tasks, cut in asked]

    async def _one(self, text: str) -> _Heard:
        if not text.strip():
            return _Heard(Found.ALLOWED)
        reply = await self._route.ask(self._format.path, self._format.body(text))
        if reply.why:
            return _Heard(Found.FAILED, reply.why)
        finding = self._format.finding(reply.body)
        if finding is None:
            why = f"{self._route.host} answered with status 200 and not as its kind of guard does"
            return _Heard(Found.FAILED, why)
        why = f"{self._route.host} said neither safe nor unsafe" if finding is Found.UNDECIDED else ""
        usage = reply.body.get("usage")
        return _Heard(finding, why, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def _worst(heard: Sequence[_Heard]) -> _Heard:
    """Of several together a refusal, else a failure, else no verdict; with the tokens of all. None allow."""
    order = (Found.REFUSED, Found.FAILED, Found.UNDECIDED, Found.ALLOWED)
    worst = min(heard, key=lambda one: order.index(one.finding), default=_Heard(Found.ALLOWED))
    return replace(worst, read=sum(one.read for one in heard), wrote=sum(one.wrote for one in heard))


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0
