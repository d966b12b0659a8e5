"""What the engine requests of one task cost, reported to the code that began them, through any layers."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from s3lora_serve.engine.port import Purpose, RequestFacts


class Hearer(Protocol):
    """A list of facts, or what stands for one."""

    def append(self, facts: RequestFacts, /) -> None:
        """Take them in."""
        ...


_hearers: ContextVar[tuple[Hearer, ...]] = ContextVar("hearers", default=())
_purpose: ContextVar[Purpose] = ContextVar("purpose", default="answer")


@contextmanager
def collected_facts() -> Iterator[list[RequestFacts]]:
    """Collect the facts of every engine request begun in this block or in tasks begun in it, as they end.

    Facts are there before the engine hands out the request's last output. Blocks nest: the outer one hears
    all that the inner one does. For coroutines only: what an async generator sets, its caller would see, too.
    """
    facts: list[RequestFacts] = []
    token = _hearers.set((*_hearers.get(), facts))
    try:
        yield facts
    finally:
        _hearers.reset(token)


class HeldFacts:
    """Facts of answers that wait for a verdict, kept until it is there: they tell how long those are."""

    def __init__(self) -> None:
        self._kept: list[RequestFacts] = []
        self._count: Callable[[RequestFacts], None] | None = None

    def append(self, facts: RequestFacts) -> None:
        """Keep them, or count what ends after the verdict."""
        if self._count is None:
            self._kept.append(facts)
        else:
            self._count(facts)

    def release(self, count: Callable[[RequestFacts], None]) -> None:
        """Let ``count`` hear of what was kept, and of what is still to end."""
        self._count = count
        while self._kept:
            count(self._kept.pop(0))


@contextmanager
def held_facts(held: HeldFacts) -> Iterator[None]:
    """Mark the engine requests begun in this block, or in tasks begun in it, as waiting for a verdict.

    ``held`` hears of them, and so does who collects facts. For coroutines only, as ``collected_facts`` is.
    """
    purpose, hearers = _purpose.set("judged"), _hearers.set((*_hearers.get(), held))
    try:
        yield
    finally:
        _hearers.reset(hearers)
        _purpose.reset(purpose)


def for_the_guard() -> AbstractContextManager[None]:
    """Mark the engine requests begun in this block, or in tasks begun in it, as the guard's.

    Who collects facts around the block does not hear of them: they are no part of what an answer cost.
    """
    return _for("guard")


def for_the_exam() -> AbstractContextManager[None]:
    """The same of an exam's: they are nobody's answer, and count for no planner."""
    return _for("exam")


@contextmanager
def _for(whom: Purpose) -> Iterator[None]:
    purpose, hearers = _purpose.set(whom), _hearers.set(())
    try:
        yield
    finally:
        _hearers.reset(hearers)
        _purpose.reset(purpose)


def asked_for() -> Purpose:
    """What a request is for that begins here."""
    return _purpose.get()


def collect_facts(facts: RequestFacts) -> None:
    """Tell the listeners of this context. Engines call it in the context in which the request began.

    It ends in another one when its stream was abandoned: the event loop then closes it from wherever it is.
    """
    for hearer in _hearers.get():
        hearer.append(facts)
