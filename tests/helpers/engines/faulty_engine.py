"""A fake engine with everything that can go wrong with one, to be ordered by tests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from s3lora_serve.engine.fake.fake_engine import FakeEngine
from s3lora_serve.engine.fake.fake_slots import FakeSlots
from s3lora_serve.errors import SlotLoadError

if TYPE_CHECKING:
    from s3lora_serve.engine.port import Slot

Call = Literal["load", "unload", "score", "stream"]


class Gate:
    """Where matching calls wait until ``open``, their cancellation or the engine's death."""

    def __init__(self) -> None:
        self.waiting = 0
        self._event = asyncio.Event()

    def open(self) -> None:
        """Let all calls through, from now on."""
        self._event.set()

    async def wait(self) -> None:
        """Return once open."""
        self.waiting += 1
        try:
            await self._event.wait()
        finally:
            self.waiting -= 1


class FaultyEngine(FakeEngine):
    """What was ordered. A ``glob`` is matched with slot names; requests for the base model have ``""``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        sound = self._slots
        self._slots: _FaultySlots = _FaultySlots(
            self, sound._in_flight, sound._base_name, sound.capacity, sound._max_lora_rank
        )
        self._gates: list[tuple[Literal["load", "request"], str, Gate]] = []
        self._deaths: list[tuple[Call, str, int]] = []  # call, glob, words that still come out
        self._hung: Gate | None = None

    @property
    def alive(self) -> bool:
        """Whether it has neither died nor been closed."""
        return not self._dead

    def fail_load(self, glob: str, reason: str = "injected fault", *, half: bool = False) -> None:
        """Let loads of matching slots fail from now on; ``half``: and the engine lists the failed id."""
        self._slots.refused.append((glob, reason, half))

    def mend_loads(self) -> None:
        """Let loads succeed again; ids that failed stay out of use."""
        self._slots.refused.clear()

    def no_effect(self, glob: str) -> None:
        """Let matching slots, loaded from now on, answer as the base model does."""
        self._slots.idle.append(glob)

    def slow_load(self, glob: str, seconds: float) -> None:
        """Let loads of matching slots take so long."""
        self._slots.slow.append((glob, seconds))

    def hold_loads(self, glob: str) -> Gate:
        """Let loads of matching slots hang. One that hangs holds up every other load and unload, too."""
        return self._gate("load", glob)

    def hold_requests(self, glob: str) -> Gate:
        """Let matching requests hang before their first word."""
        return self._gate("request", glob)

    def hang(self) -> None:
        """Stand still, as when the engine's processes are stopped: nothing is answered, and it looks well."""
        self._hung = Gate()

    def forget(self, slot: Slot) -> None:
        """Lose a loaded slot: it is listed no more and cannot be used. KeyError if it is not loaded."""
        self._slots._held.pop(slot.id)

    def invent(self, slot_id: int) -> None:
        """List an id that was never loaded; ``unload`` removes it."""
        self._slots.ghosts.add(slot_id)

    def die(self) -> None:
        """Stop for good, as when the engine's process is killed; what runs or hangs fails."""
        super().die()
        for _, _, gate in self._gates:
            gate.open()
        if self._hung is not None:
            self._hung.open()

    def die_during(self, call: Call, glob: str = "*", *, after: int = 0) -> None:
        """Die in the middle of the next matching call; of a stream, once ``after`` words have come out."""
        self._deaths.append((call, glob, after))

    def strike(self, call: Call, slot: Slot | None, words: int = 0) -> None:
        """Die now if that was ordered for this call, of which ``words`` have come out; then EngineDead."""
        name = slot.name if slot else ""
        for order in self._deaths:
            if order[0] == call and fnmatchcase(name, order[1]) and words >= order[2]:
                self._deaths.remove(order)
                self.die()
                break
        self.check_alive()

    async def wait_at(self, kind: Literal["load", "request"], name: str) -> None:
        """Hang at the gates that this call meets. Raises EngineDead if the engine dies meanwhile."""
        for at, glob, gate in self._gates:
            if at == kind and fnmatchcase(name, glob):
                await gate.wait()
        await self._stand_still()

    async def loaded(self) -> frozenset[int]:
        await self._stand_still()
        return await super().loaded()

    async def _stand_still(self) -> None:
        if self._hung is not None:
            await self._hung.wait()
        self.check_alive()

    async def step(self, call: Call, slot: Slot | None, words: int) -> None:
        await self._stand_still()
        if words == 0:
            await self.wait_at("request", slot.name if slot else "")
        await super().step(call, slot, words)
        self.strike(call, slot, words)

    def _gate(self, kind: Literal["load", "request"], glob: str) -> Gate:
        gate = Gate()
        self._gates.append((kind, glob, gate))
        return gate


class _FaultySlots(FakeSlots):
    def __init__(self, engine: FaultyEngine, *settings: Any) -> None:
        super().__init__(engine.die, *settings)
        self._engine = engine
        self.refused: list[tuple[str, str, bool]] = []  # glob, reason, whether the id stays listed
        self.idle: list[str] = []
        self.slow: list[tuple[str, float]] = []
        self.ghosts: set[int] = set()  # listed, but never loaded

    @property
    def ids(self) -> frozenset[int]:
        return super().ids | self.ghosts

    async def unload(self, slot: Slot) -> None:
        await super().unload(slot)
        self.ghosts.discard(slot.id)
        self._engine.strike("unload", slot)

    async def _load(self, slot: Slot) -> None:
        await super()._load(slot)
        if any(fnmatchcase(slot.name, glob) for glob in self.idle):
            self._held[slot.id] = replace(self._held[slot.id], revision="")

    async def _take_place(self, slot: Slot) -> None:
        for glob, reason, half in self.refused:
            if fnmatchcase(slot.name, glob):
                self.ghosts |= {slot.id} if half else set()
                raise SlotLoadError(f"slot {slot.name} could not be loaded: {reason}")
        await super()._take_place(slot)
        await asyncio.sleep(sum(seconds for glob, seconds in self.slow if fnmatchcase(slot.name, glob)))
        await self._engine.wait_at("load", slot.name)
        self._engine.strike("load", slot)
