"""Engine slots: ids that are never reused and names that are never shared."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import OrderedDict
from typing import TYPE_CHECKING

from s3lora_serve.engine.port import Slot
from s3lora_serve.errors import SlotLoadError

if TYPE_CHECKING:
    from pathlib import Path

RETIRED = 1024  # names that are remembered: each swap retires one, and requests end minutes later at most
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


def slot_name(alias: str, digest: str) -> str:
    """``alias@sha12``: the engine's own name for one revision of one planner.

    Characters that are not safe in a model name become ``-``; a hash of the alias keeps two such apart.
    """
    safe = _UNSAFE.sub("-", alias)
    if safe != alias:
        safe = f"{safe}-{hashlib.sha256(alias.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return f"{safe}@{digest[:12]}"


class SlotTable:
    """Hands out slots. An id is never given twice; a name is held by at most one live slot.

    Why: a failed id that is tried again serves a half-loaded adapter, and two ids under one name can kill the
    engine, because vLLM compares adapters by name only (vllm/lora/request.py).
    """

    def __init__(self, first_id: int = 1) -> None:
        """``first_id`` is above every id that the engine was ever given; vLLM takes them from 1."""
        self._ids = itertools.count(first_id)
        self._live: dict[str, Slot] = {}
        self._planners: dict[str, str] = {}  # slot name → planner, of live slots
        self._retired: OrderedDict[str, str] = OrderedDict()  # likewise, for requests that end late

    @property
    def live(self) -> tuple[Slot, ...]:
        """Slots that were handed out and not retired, oldest first."""
        return tuple(self._live.values())

    def allocate(self, alias: str, digest: str, path: Path) -> Slot:
        """A new slot for this revision. Raises SlotLoadError while another of the same name is live."""
        name = slot_name(alias, digest)
        if held := self._live.get(name):
            raise SlotLoadError(
                f"slot name {name!r} is held by slot {held.id}",
                hint="unload that slot before loading it again",
            )
        slot = Slot(name=name, id=next(self._ids), path=path)
        self._live[name] = slot
        self._planners[name] = alias
        return slot

    def retire(self, slot: Slot) -> None:
        """Free the slot's name, after the engine has forgotten it. Does nothing for one that is not live."""
        if self._live.get(slot.name) == slot:
            del self._live[slot.name]
            self._retired[slot.name] = self._planners.pop(slot.name)
            self._retired.move_to_end(slot.name)
            if len(self._retired) > RETIRED:
                self._retired.popitem(last=False)

    def holds(self, name: str) -> bool:
        """Whether a live slot has this name."""
        return name in self._live

    def planner_of(self, name: str) -> str | None:
        """The planner that a slot name was given to; None for one never handed out, or retired long ago."""
        return self._planners.get(name) or self._retired.get(name)
