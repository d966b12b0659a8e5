"""The port of checks: what a loaded revision must pass before it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.fleet.proof import Proof


class Check(Protocol):
    """One check. The loader runs a list of them, in order; the first that raises ends the load."""

    @property
    def name(self) -> str:
        """What progress and durations call it."""
        ...

    async def __call__(self, engine: Engine, slot: Slot, revision: Revision) -> Proof:
        """What it found of the revision in the slot. Raises EngineError if that may not answer."""
        ...
