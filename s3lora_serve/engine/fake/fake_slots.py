"""The fake engine's slots: the port's laws in memory, and a record of who broke them."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from s3lora_serve.engine.slot_files import SlotFiles, read_slot_files
from s3lora_serve.errors import EngineDead, EngineError, SlotLoadError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3lora_serve.engine.in_flight import InFlight
    from s3lora_serve.engine.port import Slot

_WIDTH = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}  # bytes per element
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class _Held:
    slot: Slot
    revision: str  # digest of the weights, empty for an adapter without effect
    weights: Path
    stamp: _Stamp  # of the weights' file when it was loaded


class FakeSlots:
    """Loaded slots, and ``violations``: each time a caller broke a law of the port.

    A real engine answers some of these with an error and some with stale answers or its death; a runtime that
    is right causes none, so tests assert that the list is empty.
    """

    def __init__(
        self, die: Callable[[], None], in_flight: InFlight, base_name: str, capacity: int, max_lora_rank: int
    ) -> None:
        self.violations: list[str] = []
        self.capacity = capacity
        self._die = die
        self._in_flight = in_flight
        self._base_name = base_name
        self._max_lora_rank = max_lora_rank
        self._held: dict[int, _Held] = {}
        self._used: set[int] = set()
        self._burnt: set[int] = set()
        self._served: dict[str, str] = {}  # slot name → digest of the weights that it ever stood for
        self._lock = asyncio.Lock()

    @property
    def ids(self) -> frozenset[int]:
        """Ids that the engine lists."""
        return frozenset(self._held)

    @property
    def by_name(self) -> dict[str, Slot]:
        """The loaded slots."""
        return {held.slot.name: held.slot for held in self._held.values()}

    async def load(self, slot: Slot) -> None:
        """Read the slot's files and hold it. Raises SlotLoadError, EngineDead."""
        async with self._lock:
            held = self._held.get(slot.id)
            if held is not None and held.slot == slot:
                return
            try:
                await self._load(slot)
            except BaseException:  # cancelled, too: how far it came is unknown
                if slot.id not in self._held:
                    self._burnt.add(slot.id)
                raise

    async def unload(self, slot: Slot) -> None:
        """Forget the slot, if it is held. Raises EngineError while requests run on it, EngineDead."""
        async with self._lock:
            held = self._held.get(slot.id)
            if held is not None and (count := self._in_flight.running(slot.name)):
                message = f"slot {slot.name} has {count} running request{'s' if count > 1 else ''}"
                self.violations.append(f"unload: {message}")
                raise EngineError(message, hint="unload it once they have ended")
            if held is not None:
                self._check_files(held)
                del self._held[slot.id]
            await asyncio.sleep(0)

    def revision(self, slot: Slot | None) -> str:
        """The digest that decides what is answered, empty for the base model. EngineError if not loaded."""
        if slot is None:
            return ""
        held = self._held.get(slot.id)
        if held is None or held.slot.name != slot.name:
            message = f"slot {slot.name} (id {slot.id}) is not loaded"
            self.violations.append(f"request: {message}")
            raise EngineError(message, hint="load it first")
        return held.revision

    def check_step(self, slot: Slot | None) -> None:
        """What a step of a request needs. Without the slot's files the engine dies: it may reread them."""
        if slot is not None and slot.id in self._held and not self._check_files(self._held[slot.id]):
            self._die()
            raise EngineDead(f"the files of slot {slot.name} went under a running request", hint="")

    async def _load(self, slot: Slot) -> None:
        self._check(slot)
        self._used.add(slot.id)
        files = read_slot_files(slot)
        if (rank := files.config.get("r", 0)) > self._max_lora_rank:
            raise SlotLoadError(
                f"slot {slot.name}: rank {rank} is greater than max_lora_rank {self._max_lora_rank}",
                hint="raise engine.max_lora_rank to the adapter's rank",
            )
        await self._take_place(slot)
        weights = hashlib.sha256(files.weights.read_bytes()).hexdigest()
        if self._served.setdefault(slot.name, weights) != weights:
            self.violations.append(f"load: slot name {slot.name} stood for other weights before")
        revision = "" if _all_zero(files) else weights
        self._held[slot.id] = _Held(slot, revision, files.weights, _stamp(files.weights))

    async def _take_place(self, slot: Slot) -> None:
        """Raise SlotLoadError if all are taken; others run meanwhile."""
        if len(self.ids) >= self.capacity:
            raise SlotLoadError(
                f"slot {slot.name}: all {self.capacity} slots are taken", hint="raise engine.max_loras"
            )
        await asyncio.sleep(0)

    def _check(self, slot: Slot) -> None:
        if slot.id in self._burnt:
            self._refuse(f"slot id {slot.id} failed before and is out of use", "load it under a new id")
        if slot.id in self._held:
            self._refuse(f"slot id {slot.id} is taken by {self._held[slot.id].slot.name}", "use a new id")
        if slot.name == self._base_name:
            self._refuse(f"slot name {slot.name} is the base model's own name", "give the slot another name")
        for held in self.by_name.values():
            if held.name == slot.name:
                self._refuse(f"slot name {slot.name} is taken by id {held.id}", "unload that slot first")
        if slot.id in self._used:
            self.violations.append(f"load: slot id {slot.id} was used before")

    def _refuse(self, message: str, hint: str) -> NoReturn:
        self.violations.append(f"load: {message}")
        raise SlotLoadError(message, hint=hint)

    def _check_files(self, held: _Held) -> bool:
        """False if the slot's files are gone; what was done to them meanwhile is recorded."""
        try:
            changed = _stamp(held.weights) != held.stamp
        except OSError:
            self.violations.append(f"files: those of slot {held.slot.name} went before it was unloaded")
            return False
        if changed:
            self.violations.append(f"files: those of slot {held.slot.name} changed while it was loaded")
        return True


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _all_zero(files: SlotFiles) -> bool:
    """Whether each lora_B is zero, read as bytes; an adapter without any counts as not zero."""
    tensors = [entry for name, entry in files.tensors.items() if ".lora_B." in name]
    with files.weights.open("rb") as file:
        for entry in tensors:
            begin, end = entry["data_offsets"]
            file.seek(files.data_start + begin)
            if not _zero_bytes(file.read(end - begin), _WIDTH.get(entry["dtype"], 1)):
                return False
    return bool(tensors)


def _zero_bytes(data: bytes, width: int) -> bool:
    """Whether little-endian floats are all 0.0 or -0.0, whose one bit is the last byte's highest."""
    lower = any(any(data[i::width]) for i in range(width - 1))
    return not lower and set(data[width - 1 :: width]) <= {0, 128}
