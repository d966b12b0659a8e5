"""The fake engine's slots: the port's laws in memory, and faults to order."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from s3lora_serve.engine.slot_files import SlotFiles, read_slot_files
from s3lora_serve.errors import EngineError, SlotLoadError

if TYPE_CHECKING:
    from s3lora_serve.engine.port import Slot

_WIDTH = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8}  # bytes per element


class FakeSlots:
    """Loaded slots and the digest of each one's weights; an empty digest is an adapter without effect."""

    def __init__(self, base_name: str, capacity: int, max_lora_rank: int) -> None:
        self.failing: dict[str, str] = {}  # glob of slot names → reason
        self.ineffective: list[str] = []  # globs of slot names
        self.running: Counter[str | None] = Counter()  # requests in flight by slot name, None: the base model
        self.capacity = capacity
        self._base_name = base_name
        self._max_lora_rank = max_lora_rank
        self._held: dict[int, tuple[Slot, str]] = {}
        self._burnt: set[int] = set()

    @property
    def ids(self) -> frozenset[int]:
        """Ids of the loaded slots."""
        return frozenset(self._held)

    @property
    def by_name(self) -> dict[str, Slot]:
        """The loaded slots."""
        return {slot.name: slot for slot, _ in self._held.values()}

    async def load(self, slot: Slot) -> None:
        """Read the slot's files and hold it. Raises SlotLoadError."""
        held = self._held.get(slot.id)
        if held is not None and held[0] == slot:
            return
        try:
            self._check(slot)
            files = read_slot_files(slot)
            if (rank := files.config.get("r", 0)) > self._max_lora_rank:
                raise SlotLoadError(
                    f"slot {slot.name}: rank {rank} is greater than max_lora_rank {self._max_lora_rank}",
                    hint="raise engine.max_lora_rank to the adapter's rank",
                )
        except SlotLoadError:
            if held is None:
                self._burnt.add(slot.id)
            raise
        idle = any(fnmatchcase(slot.name, glob) for glob in self.ineffective) or _all_zero(files)
        digest = "" if idle else hashlib.sha256(files.weights.read_bytes()).hexdigest()
        self._held[slot.id] = (slot, digest)
        await asyncio.sleep(0)  # a real load lets others run, too

    def unload(self, slot: Slot) -> None:
        """Forget the slot, if it is held. Raises EngineError while requests run on it."""
        if slot.id in self._held and (count := self.running[slot.name]):
            raise EngineError(
                f"slot {slot.name} has {count} running request{'s' if count > 1 else ''}",
                hint="unload it once they have ended",
            )
        self._held.pop(slot.id, None)

    def revision(self, slot: Slot | None) -> str:
        """The digest that decides what is answered, empty for the base model. EngineError if not loaded."""
        if slot is None:
            return ""
        held = self._held.get(slot.id)
        if held is None or held[0].name != slot.name:
            raise EngineError(f"slot {slot.name} (id {slot.id}) is not loaded", hint="load it first")
        return held[1]

    def _check(self, slot: Slot) -> None:
        if slot.id in self._burnt:
            raise SlotLoadError(
                f"slot id {slot.id} failed before and is out of use", hint="load it under a new id"
            )
        if (taken := self._held.get(slot.id)) is not None:
            raise SlotLoadError(f"slot id {slot.id} is taken by {taken[0].name}", hint="use a new id")
        if slot.name == self._base_name:
            raise SlotLoadError(
                f"slot name {slot.name} is the base model's own name", hint="give the slot another name"
            )
        for held, _ in self._held.values():
            if held.name == slot.name:
                raise SlotLoadError(
                    f"slot name {slot.name} is taken by id {held.id}", hint="unload that slot first"
                )
        for glob, reason in self.failing.items():
            if fnmatchcase(slot.name, glob):
                raise SlotLoadError(f"slot {slot.name} could not be loaded: {reason}")
        if len(self._held) >= self.capacity:
            raise SlotLoadError(
                f"slot {slot.name}: all {self.capacity} slots are taken", hint="raise engine.max_loras"
            )


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
