"""Swap after swap to adapters that were never seen: nothing in the server grows with them but its records."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

from fleet_factory import Shelf
from orders import ask, serving

from s3lora_serve.config import SwapConfig
from s3lora_serve.control.operation import Order, Step, Wanted
from s3lora_serve.control.operations import RECENT

PRODUCT = Path(__import__("s3lora_serve").__file__).parent
SETTLED, SWAPS = RECENT + 10, 60  # until every ring and cache of the product is full; what is then measured
ENTRIES = 6  # of a swap: begun, admitted, loaded, flipped, drained, done


class Forgetful(Shelf):
    """One new adapter after the other; like a store, it keeps none of them in memory."""

    def admit(self, planner, wanted, progress):
        if wanted.source not in self.revisions:
            self.put(wanted.source)
        return super().admit(planner, wanted, progress)

    def put(self, source, *, hollow=False):
        self.made = getattr(self, "made", 0) + 1
        revision = super().put(source, hollow=hollow)
        digest = f"{self.made:064x}"[::-1]
        self.revisions = {source: type(revision)(digest, revision.path, revision.lineage)}
        return self.revisions[source]


def held():
    """Bytes that lines of the product hold."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, f"{PRODUCT}/*")])
    return sum(trace.size for trace in snapshot.traces)


async def test_nothing_grows_with_swaps_but_what_is_written_down(fleet_of, tmp_path):
    """Memory, descriptors, /metrics, slots and deployments are as before; the journal has its entries."""
    shelf = Forgetful(tmp_path)
    fleet = await fleet_of("p", shelf=shelf, max_loras=2, swap=SwapConfig(keep_seconds=3600)).start()
    service = fleet.service

    async def swaps(first, count):
        for number in range(first, first + count):
            order = Order(actor="alice", reason="newer")
            done = await fleet.done(await fleet.control.swap("p", Wanted(source=f"new {number}"), order))
            assert done.step is Step.DONE
            assert await ask(fleet, "p") == serving(fleet, "p")
            fleet.seen.clear()
            fleet.engine._slots._used.clear()  # the fake remembers all that it was asked, to find misuse
            fleet.engine._slots._served.clear()

    def looked_at():
        return {
            "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "metrics": len(service.metrics.exposition().splitlines()),
            "slots": len(service._slots.live),
            "deployments": len(service._fleet.deployments()),
            "windows": len(service._auto_rollback._windows),
            "loads": len(service._loading._loads),
            "used": len(service._loading._allocator._used),
        }

    tracemalloc.start()
    try:
        await swaps(0, SETTLED)
        before, entries, bytes_before = looked_at(), service.journal.head().seq, held()
        await swaps(SETTLED, SWAPS)
        after, bytes_after = looked_at(), held()
    finally:
        tracemalloc.stop()
    assert after == before
    assert service.journal.head().seq - entries == ENTRIES * SWAPS
    # A retired slot's name is remembered, which is bounded, and takes some 200 bytes. A task that slept until
    # a revision's hour was over took 2,200.
    assert (bytes_after - bytes_before) / SWAPS < 1000
    assert len(await fleet.running.loaded()) == 2
