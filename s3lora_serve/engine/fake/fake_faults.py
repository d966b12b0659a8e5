"""Everything that can go wrong with an engine, to be ordered of the fake one by tests."""

from __future__ import annotations

import asyncio
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from s3lora_serve.errors import EngineDead

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


class Faults:
    """What was ordered. A ``glob`` is matched with slot names; requests for the base model have ``""``."""

    def __init__(self) -> None:
        self._dead = False
        self._refused: list[tuple[str, str, bool]] = []  # glob, reason, whether the id stays listed
        self._idle: list[str] = []
        self._gates: list[tuple[Literal["load", "request"], str, Gate]] = []
        self._slow: list[tuple[str, float]] = []
        self._deaths: list[tuple[Call, str, int]] = []  # call, glob, words that still come out

    def fail_load(self, glob: str, reason: str = "injected fault", *, half: bool = False) -> None:
        """Let loads of matching slots fail from now on; ``half``: and the engine lists the failed id."""
        self._refused.append((glob, reason, half))

    def mend_loads(self) -> None:
        """Let loads succeed again; ids that failed stay out of use."""
        self._refused.clear()

    def no_effect(self, glob: str) -> None:
        """Let matching slots, loaded from now on, answer as the base model does."""
        self._idle.append(glob)

    def slow_load(self, glob: str, seconds: float) -> None:
        """Let loads of matching slots take so long."""
        self._slow.append((glob, seconds))

    def hold_loads(self, glob: str) -> Gate:
        """Let loads of matching slots hang. One that hangs holds up every other load and unload, too."""
        return self._gate("load", glob)

    def hold_requests(self, glob: str) -> Gate:
        """Let matching requests hang before their first word."""
        return self._gate("request", glob)

    def die(self) -> None:
        """Stop for good, as when the engine's process is killed; what runs or hangs fails."""
        self._dead = True
        for _, _, gate in self._gates:
            gate.open()

    def die_during(self, call: Call, glob: str = "*", *, after: int = 0) -> None:
        """Die in the middle of the next matching call; of a stream, once ``after`` words have come out."""
        self._deaths.append((call, glob, after))

    # What the engine asks

    def check_alive(self) -> None:
        """Raise EngineDead if the engine is dead."""
        if self._dead:
            raise EngineDead("the fake engine is dead", hint="make another")

    def refusal(self, slot: Slot) -> tuple[str, bool] | None:
        """Why this load fails, and whether the id stays listed; None if it does not."""
        found = (order for order in self._refused if fnmatchcase(slot.name, order[0]))
        return next(((reason, half) for _, reason, half in found), None)

    def is_idle(self, slot: Slot) -> bool:
        """Whether the slot shall have no effect."""
        return any(fnmatchcase(slot.name, glob) for glob in self._idle)

    async def pause_load(self, slot: Slot) -> None:
        """Take the time that the load shall take. Raises EngineDead if the engine dies meanwhile."""
        await asyncio.sleep(sum(seconds for glob, seconds in self._slow if fnmatchcase(slot.name, glob)))
        await self._pass("load", slot.name)
        self.strike("load", slot)

    async def pause_request(self, slot: Slot | None) -> None:
        """Hang if the request shall. Raises EngineDead if the engine dies meanwhile."""
        await self._pass("request", slot.name if slot else "")

    def strike(self, call: Call, slot: Slot | None, words: int = 0) -> None:
        """Die now if that was ordered for this call, of which ``words`` have come out; then EngineDead."""
        name = slot.name if slot else ""
        for order in self._deaths:
            if order[0] == call and fnmatchcase(name, order[1]) and words >= order[2]:
                self._deaths.remove(order)
                self.die()
                break
        self.check_alive()

    def _gate(self, kind: Literal["load", "request"], glob: str) -> Gate:
        gate = Gate()
        self._gates.append((kind, glob, gate))
        return gate

    async def _pass(self, kind: Literal["load", "request"], name: str) -> None:
        for at, glob, gate in self._gates:
            if at == kind and fnmatchcase(name, glob):
                await gate.wait()
        self.check_alive()
