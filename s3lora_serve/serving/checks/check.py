"""The port of checks: what a loaded revision must pass before it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.engine.port import Engine, Slot
    from s3lora_serve.fleet.proof import Proof


class Check(Protocol):
    """One check. The loader runs a list of them, in order; the first that raises ends the load."""

    @property
    def name(self) -> str:
        """What progress and durations call it."""
        ...

    @property
    def long(self) -> bool:
        """Whether it may take minutes.

        Then it limits its time itself in place of ``slots.load_seconds``, is cancelled once nobody waits for
        the load, and is not run again when a deployment that passed it is loaded again: no request waits.
        """
        ...

    async def __call__(
        self, engine: Engine, slot: Slot, revision: Revision, tell: Callable[[str], None]
    ) -> Proof | None:
        """What it found of the revision in the slot; None if it does not apply. ``tell`` hears of progress.

        Raises EngineError if the revision may not answer.
        """
        ...
