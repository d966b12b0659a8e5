"""Mending at a start: a planner that its exam withholds gets the least pruning with which it passes."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from s3lora_serve.control.operation import Wanted
from s3lora_serve.control.orders.mending import Candidate
from s3lora_serve.errors import EngineDead, S3LoRAError
from s3lora_serve.fleet.slots import slot_name

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.admission_port import Admission
    from s3lora_serve.control.journal.entry import NewEntry
    from s3lora_serve.control.orders.mending import Mending
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.fleet.planner_record import PlannerRecord
    from s3lora_serve.fleet.work_threads import WorkThreads

log = logging.getLogger(__name__)

ACTOR = "s3lora-serve"


class StartMending:
    """Mends what a start withholds; ``entries`` are its decisions, to be written once the start is sure."""

    def __init__(
        self,
        mending: Mending,
        replica: Replica,
        admission: Admission,
        threads: WorkThreads,
        slot_seconds: float,
    ) -> None:
        """``slot_seconds`` is how long a rung waits for a slot."""
        self._mending = mending
        self._replica = replica
        self._admission = admission
        self._threads = threads
        self._slot_seconds = slot_seconds
        self.entries: list[NewEntry] = []

    async def mend(self, name: str, record: PlannerRecord | None) -> None:
        """Let the planner serve what mending made of its revision. Else it stays withheld, and says why.

        ``record`` is what was written down of it. What served last may be of another source than the declared
        one: that is not mended, since rungs are of the weights that were refused. Raises EngineDead.
        """
        alias = self._replica.alias(name)
        if not alias.withheld or alias.withheld_by != "exam" or not self._mending.mends(name):
            return  # to try once more would log and count the same verdict again
        candidate = Candidate(name, self._replica.revision(alias.active), Wanted.of(alias.desired))
        try:
            async with AsyncExitStack() as held:
                revision = await self._mending.load(held, self, candidate)
                key = slot_name(name, revision.digest)
                served = record is not None and record.active == candidate.revision.digest
                now = replace(
                    alias,
                    active=key,
                    previous=None if alias.previous == revision.digest else alias.previous,
                    generation=alias.generation + 1 if served else alias.generation,
                    withheld="",
                )
                self._replica.flip(now, revision)
        except EngineDead:
            raise
        except S3LoRAError as error:
            log.error("planner %s stays as it is: %s", name, error)
            self._replica.flip(replace(alias, withheld=error.message))
            return
        except Exception:  # a defect met by one adapter must not keep the others from serving
            log.exception("planner %s stays as it is", name)
            return
        self._replica.discard(alias.active)

    async def admit(self, planner: str, wanted: Wanted) -> Revision:
        """As the port of hands says."""
        return await self._threads.admission.run(
            self._admission.admit, planner, wanted, lambda stage, fraction: None
        )

    async def load(self, planner: str, revision: Revision) -> None:
        """As the port of hands says."""
        await self._replica.prepare(planner, revision, lambda stage: None, self._slot_seconds)

    def tell(self, stage: str) -> None:
        """Into the log."""
        log.info("%s", stage)

    async def note(self, entry: NewEntry) -> None:
        """Keep it until what serves is written down."""
        self.entries.append(replace(entry, actor=ACTOR, reason="at the start"))
