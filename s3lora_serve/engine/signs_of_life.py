"""What an engine knows of its own progress: signs of life, requests in it, what may keep it from stepping."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s3lora_serve.errors import EngineDead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What keeps an engine from stepping and is no hang: an adapter goes in or out, or a grammar is compiled.
Hold = Literal["", "load", "grammar"]

_MOST_GRAMMARS = 10_000  # remembered as compiled; then all are forgotten, which costs patience only


@dataclass(frozen=True)
class EngineProgress:
    """An engine's progress at one moment."""

    signs: int  # steps made and calls answered since its start: another number is a sign of life
    running: int  # requests in it
    held: Hold = ""
    slowest_load: float | None = None  # seconds that an adapter took to go in or out, at most; None: none did


class SignsOfLife:
    """Counts what an engine does, and knows what may hold it up. Kept by the engine, read by its watchdog."""

    def __init__(self) -> None:
        self._signs = 0
        self._loads = 0
        self._slowest_load: float | None = None
        self._compiling = 0
        self._compiled: set[int] = set()

    def sign(self) -> None:
        """Note that the engine made a step or answered a call."""
        self._signs += 1

    def progress(self, running: int) -> EngineProgress:
        """The moment, with so many requests in the engine."""
        held: Hold = "load" if self._loads else "grammar" if self._compiling else ""
        return EngineProgress(self._signs, running, held, self._slowest_load)

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Within, an adapter goes in or out, for which steps wait. An end that the engine tells is a sign."""
        self._loads += 1
        began = time.monotonic()
        try:
            yield
        except EngineDead:
            raise
        except Exception:
            self.sign()  # a refusal is an answer, too
            raise
        else:
            self.sign()
            self._slowest_load = max(self._slowest_load or 0.0, time.monotonic() - began)
        finally:
            self._loads -= 1

    @contextmanager
    def compiling(self, grammar: object | None) -> Iterator[Callable[[], None]]:
        """Within, a request runs whose grammar the engine may have to compile first; None: it has none.

        It yields what to call at each output of the request: a sign of life, and the grammar is compiled.
        """
        key = None if grammar is None else hash(repr(grammar))
        waiting = key is not None and key not in self._compiled
        self._compiling += waiting

        def output() -> None:
            nonlocal waiting
            self.sign()
            if waiting:
                waiting = False
                self._compiling -= 1
                self._remember(key)

        try:
            yield output
        finally:
            self._compiling -= waiting

    def _remember(self, key: int | None) -> None:
        if len(self._compiled) >= _MOST_GRAMMARS:
            self._compiled.clear()
        if key is not None:
            self._compiled.add(key)
