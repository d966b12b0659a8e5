"""What base models and pinned revisions answered, kept in memory for as long as their engine is there."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Hashable

    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.exam.exam_asking import SetAnswers

MOST = 100  # sets of answers of one engine, some 20 kB each; those used longest ago go first


@dataclass
class _OfEngine:
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)
    answers: OrderedDict[Hashable, SetAnswers] = field(default_factory=OrderedDict)


class KeptAnswers:
    """Of each engine: whose turn it is to examine, and answers that need not be asked again.

    An engine that replaces another one is asked anew: its arithmetic may be another.
    """

    def __init__(self) -> None:
        self._engines: WeakKeyDictionary[Engine, _OfEngine] = WeakKeyDictionary()

    def alone(self, engine: Engine) -> asyncio.Lock:
        """Hold it while an exam asks."""
        return self._of(engine).taking

    def find(self, engine: Engine, key: Hashable) -> SetAnswers | None:
        """What is kept under this key, or None."""
        answers = self._of(engine).answers
        if key in answers:
            answers.move_to_end(key)
        return answers.get(key)

    def keep(self, engine: Engine, key: Hashable, answers: SetAnswers) -> None:
        """Keep a set that was answered whole."""
        kept = self._of(engine).answers
        kept[key] = answers
        while len(kept) > MOST:
            kept.popitem(last=False)

    def _of(self, engine: Engine) -> _OfEngine:
        if engine not in self._engines:
            self._engines[engine] = _OfEngine()
        return self._engines[engine]
