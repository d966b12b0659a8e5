"""A guard model or a moderation route elsewhere as a judge of requests."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from s3lora_serve.guard.endpoint.guard_formats import guard_format
from s3lora_serve.guard.endpoint.text_windows import text_windows
from s3lora_serve.guard.question import Part
from s3lora_serve.guard.ruling import Finding, Ruling
from s3lora_serve.storage.canonical_json import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.guard.endpoint.guard_route import GuardRoute
    from s3lora_serve.guard.question import Passage, Question

AT_ONCE = 8  # windows of one request that are asked about at the same time
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

    finding: Finding
    why: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0


class EndpointJudge:
    """Asks about the task alone and, where a request has more than that, about all of it in the fixed frame.

    The task alone too, since what stands around it is the client's to choose and could talk a guard model
    round. What is longer than ``endpoint.window_chars`` is asked about in windows that overlap. One refusal
    refuses.

    A guard model does not say what its refusal is about. It is the task if that alone is refused. Else the
    same is asked without the parts of ``observe_parts``, so that one of them is named only where nothing else
    is refused; then each part alone, and the first that is refused is named. Where it is only the parts
    together, or too much to find out, the task is named.
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

    async def rule(self, question: Question, caller: str, request_id: str) -> Ruling:
        """Judge one request. Raises nothing but cancellation, which closes the connections that it uses."""
        began = time.monotonic()
        if self._remembered is None:
            ruling, known = await self._asked(question), False
        else:
            key = canonical_digest([self._settings, question.digest, caller])
            try:
                ruling, known = await self._remembered.once(key, lambda: self._verdict(question))
            except _NoVerdict as none:
                ruling, known = none.ruling, False
        seconds = time.monotonic() - began
        if known:
            return replace(ruling, cached=True, prompt_tokens=0, output_tokens=0, seconds=seconds)
        return replace(ruling, seconds=seconds)

    async def _verdict(self, question: Question) -> Ruling:
        ruling = await self._asked(question)
        if ruling.finding not in (Finding.ALLOWED, Finding.REFUSED):
            raise _NoVerdict(ruling)
        return ruling

    async def _asked(self, question: Question) -> Ruling:
        task, whole = await self._task_and_whole(question)
        heard, part = _of([task, whole]), None
        if task.finding is Finding.REFUSED:
            part = Part.TASK
        elif whole.finding is Finding.REFUSED:
            part, naming = await self._part(question)
            heard = replace(_of([heard, naming]), finding=Finding.REFUSED, why="")
        return Ruling(heard.finding, self.name, part, heard.why, heard.prompt_tokens, heard.output_tokens)

    async def _task_and_whole(self, question: Question) -> tuple[_Heard, _Heard]:
        task = text_windows(question.task, self._window)
        more = (
            text_windows(self._framed(question.task, question.passages), self._window)
            if question.passages
            else []
        )
        heard = await self._all([*task, *more])
        return _of(heard[: len(task)]), _of(heard[len(task) :])

    async def _part(self, question: Question) -> tuple[Part, _Heard]:
        """What the refusal of the whole is about, and what it took to find out."""
        kept = tuple(each for each in question.passages if each.part not in self._observed)
        spent = _Heard(Finding.ALLOWED)
        if len(kept) < len(question.passages):
            text = self._framed(question.task, kept) if kept else question.task
            spent = _of(await self._all(text_windows(text, self._window)))
            if spent.finding is Finding.ALLOWED:
                return next(each.part for each in question.passages if each.part in self._observed), spent
            if spent.finding is not Finding.REFUSED:
                return Part.TASK, spent
        left = NAMING
        for part in dict.fromkeys(each.part for each in kept):
            text = "\n\n".join(f"{each.title}:\n{each.text}" for each in kept if each.part is part)
            windows = text_windows(text, self._window)
            if (left := left - len(windows)) < 0:
                break
            heard = _of(await self._all(windows))
            spent = _of([spent, heard])
            if heard.finding is Finding.REFUSED:
                return part, spent
        return Part.TASK, spent

    async def _all(self, texts: Sequence[str]) -> list[_Heard]:
        """What is said of each text; a window is asked about once, however often it stands there."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(text: str) -> _Heard:
            async with places:
                return await self._one(text)

        async with asyncio.TaskGroup() as group:
            asked = {text: group.create_task(one(text)) for text in dict.fromkeys(texts)}
        return [asked[text].result() for text in texts]

    async def _one(self, text: str) -> _Heard:
        if not text.strip():
            return _Heard(Finding.ALLOWED)
        reply = await self._route.ask(self._format.path, self._format.body(text))
        if reply.why:
            return _Heard(Finding.FAILED, reply.why)
        finding = self._format.finding(reply.body)
        if finding is None:
            why = f"{self._route.host} answered with status 200 and not as its kind of guard does"
            return _Heard(Finding.FAILED, why)
        why = f"{self._route.host} said neither safe nor unsafe" if finding is Finding.UNDECIDED else ""
        usage = reply.body.get("usage")
        return _Heard(finding, why, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))


def _of(heard: Iterable[_Heard]) -> _Heard:
    """All together: a refusal before a failure, that before no verdict."""
    each = list(heard)
    worst = next(
        (
            (finding, next(one.why for one in each if one.finding is finding))
            for finding in (Finding.REFUSED, Finding.FAILED, Finding.UNDECIDED)
            if any(one.finding is finding for one in each)
        ),
        (Finding.ALLOWED, ""),
    )
    tokens = (sum(one.prompt_tokens for one in each), sum(one.output_tokens for one in each))
    return _Heard(*worst, *tokens)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else 0
