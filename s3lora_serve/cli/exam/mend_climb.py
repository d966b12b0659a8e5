"""Climbing the ladder on an engine of one's own: each rung is loaded, examined, and taken out again."""

from __future__ import annotations

import itertools
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from s3lora_serve.adapters.peft.peft_format import write_peft
from s3lora_serve.cli.exam.mended import Control, Mended
from s3lora_serve.engine.port import Slot
from s3lora_serve.safety.exam.exam_result import ExamVerdict, lets_serve
from s3lora_serve.safety.exam.rung_exam import RungFound, RungTerms, examine_rung

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence
    from pathlib import Path

    from s3lora_serve.adapters.peft.peft_format import PeftAdapter
    from s3lora_serve.config import ExamConfig
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.exam.exam_result import ExamResult
    from s3lora_serve.safety.exam.examiner import Examiner
    from s3lora_serve.safety.exam.ladder import Ladder, Rung

    Told = Callable[[str, float | None], None]

CONTROLS = 3  # draws of random modules
SLOTS = 2  # that a climb takes: the unpruned adapter, and a rung


@dataclass(frozen=True)
class Climb:
    """One climb: the adapter, its ladder, and the two examiners, of the half that chooses and the other."""

    name: str
    adapter: PeftAdapter
    scored: tuple[str, ...]  # its modules that have a score
    ladder: Ladder
    settings: ExamConfig
    examiners: tuple[Examiner, Examiner]
    folder: Path  # empty, for the rungs' files

    async def run(self, engine: Engine, *, control: bool, told: Told) -> Mended:
        """Up to the first rung that may serve; then, with ``control``, as many modules at random.

        Raises EngineError, EngineDead; then the engine holds nothing of it.
        """
        slots = _Slots(engine, self.adapter, self.folder)
        level = self.ladder.level(self.settings.confidence)
        found: list[RungFound] = []
        controls: list[Control] = []
        chosen = None
        async with slots.without(()) as unpruned:
            asking = _Asking(engine, unpruned, self.examiners, level, told)
            for number, rung in enumerate(self.ladder.rungs, start=1):
                step = f"rung {number} of {len(self.ladder.rungs)}, top {rung.top}"
                row = await self._rung(slots, rung, asking, step)
                found.append(row)
                if row.verdict and lets_serve(ExamVerdict(row.verdict), self.settings):
                    chosen = row
                    break
            top = found[-1].rung.top if found else 0
            for seed in range(CONTROLS if control and 0 < top < len(self.adapter.modules) else 0):
                step = f"control {seed + 1} of {CONTROLS}, {top} at random"
                async with slots.without(drawn(self.scored, top, seed)) as slot:
                    controls.append(Control(seed, top, await asking.ask(slot, 1, level, step)))
        return Mended(self.name, len(self.scored), self.ladder, level, tuple(found), chosen, tuple(controls))

    async def _rung(self, slots: _Slots, rung: Rung, asking: _Asking, step: str) -> RungFound:
        """Its row of the table."""
        if len(rung.pruned) == len(self.adapter.modules):
            return RungFound(rung, why="nothing of it would be left")
        async with slots.without(rung.pruned) as slot:

            async def ask(half: int, level: float | None) -> ExamResult:
                return await asking.ask(slot, half, level, f"{step}, {'confirming' if half else 'choosing'}")

            exam = await examine_rung(ask, self.settings, RungTerms(asking.level))
        return RungFound.of(rung, "", exam.result.why, exam.result, exam)


@dataclass(frozen=True)
class _Asking:
    """Examines what is in a slot beside the unpruned adapter."""

    engine: Engine
    unpruned: Slot
    examiners: tuple[Examiner, Examiner]
    level: float  # of a confirmation
    told: Told

    async def ask(self, slot: Slot, half: int, level: float | None, step: str) -> ExamResult:
        return await self.examiners[half].examine(
            self.engine,
            slot,
            key="",
            unpruned=self.unpruned,
            level=level,
            told=lambda done, total: self.told(step, done / total if total else None),
        )


class _Slots:
    """The adapter without some modules, in slots whose numbers are used once."""

    def __init__(self, engine: Engine, adapter: PeftAdapter, folder: Path) -> None:
        self._engine = engine
        self._adapter = adapter
        self._folder = folder
        self._ids = itertools.count(1)
        self._held: dict[frozenset[str], Slot] = {}

    @asynccontextmanager
    async def without(self, dropped: Collection[str]) -> AsyncIterator[Slot]:
        """Within, a slot that holds the rest; the one that is held already if it is the same."""
        pruned = frozenset(dropped)
        if (known := self._held.get(pruned)) is not None:
            yield known
            return
        number = next(self._ids)
        slot = Slot(f"rung@{number}", number, self._folder / str(number))
        slot.path.mkdir(parents=True)
        try:
            write_peft(slot.path, self._adapter, pruned)  # nothing else waits for this loop
            await self._engine.load(slot)
            self._held[pruned] = slot
            try:
                yield slot
            finally:
                del self._held[pruned]
                await self._engine.unload(slot)
        finally:
            shutil.rmtree(slot.path, ignore_errors=True)


def drawn(scored: Sequence[str], top: int, seed: int) -> tuple[str, ...]:
    """So many of the modules at random, the same for the same seed."""
    return tuple(Random(seed).sample(sorted(scored), top))
