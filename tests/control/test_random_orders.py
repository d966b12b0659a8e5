"""Orders, requests, deaths and full disks in any order: what must hold during and after, whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections import defaultdict

import pytest
from fleet_factory import BASE, Shelf, desired, make_fleet
from virtual_time import run_virtually

from s3lora_serve.config import RollbackConfig, SlotsConfig, SwapConfig
from s3lora_serve.control.operation import Order, Wanted
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import S3LoRAError, StateError
from s3lora_serve.fleet.states import DeploymentState

_S = DeploymentState
SEEDS = range(int(os.environ.get("S3LORA_STORMS", "8")))
NAMES = ("p", "q", "r", "s")
SPARE = ("u", "v", "w", "x")
HOLLOW = "hollow"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Eight revisions, and one that was fully pruned."""
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    for name in (*NAMES, *SPARE):
        shelf.put(name)
    shelf.put(HOLLOW, hollow=True)
    return shelf


class Storm:
    """One fleet with few slots, under everything at once."""

    def __init__(self, rng, root, shelf):
        self.rng = rng
        self.root = root
        self.shelf = shelf
        capacity = rng.choice((2, 3, 4))
        self.pinned = ("p",) if rng.random() < 0.3 else ()
        self.options = {
            "shelf": shelf,
            "pinned": self.pinned,
            "max_loras": capacity,
            "slots": SlotsConfig(wait_seconds=2.0, max_waiting=rng.choice((2, 64))),
            "swap": SwapConfig(
                drain_seconds=rng.choice((0.05, 2.0)),
                keep_seconds=rng.choice((0.05, 500.0)),
            ),
            "rules": RollbackConfig(requests=20, min_requests=5),
        }
        self.fleet = make_fleet(root, *NAMES, **self.options)
        self.service = self.fleet.service
        self.answers = {}  # revision → what it says
        self.errors = defaultdict(int)
        self.over = False
        self.disk_full = 0.0

    async def run(self):
        """The storm, the calm after it, and a restart."""
        self.declared = dict(self.fleet.desired)
        write = self.service.journal.write

        def sometimes(*entries, **options):
            if self.rng.random() < self.disk_full:
                raise StateError("the disk is full")
            return write(*entries, **options)

        self.service.journal.write = sometimes
        await self.fleet.start()
        for engine in self.fleet.starts.engines:
            engine.seconds_per_token = 0.002
        work = [self.client(i) for i in range(6)] + [self.operator() for _ in range(3)] + [self.chaos()]
        tasks = [asyncio.create_task(each) for each in work]
        watch = asyncio.create_task(self.watch())
        await asyncio.sleep(self.rng.choice((2, 8)))
        self.over, self.disk_full = True, 0.0
        async with asyncio.timeout(500):
            await asyncio.gather(*tasks)
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await self.calm()
        await self.check()
        await self.restart()

    async def pause(self, most=0.1):
        await asyncio.sleep(self.rng.random() * most)

    # Requests

    async def client(self, number):
        while not self.over:
            name = self.rng.choice((*NAMES, "u"))
            session = self.rng.choice((None, f"s{self.rng.randrange(5)}"))
            task = asyncio.create_task(self.request(name, session, f"{number}"))
            if self.rng.random() < 0.2:  # this one hangs up
                await self.pause(0.05)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.pause(0.02)

    async def request(self, name, session, request_id):
        try:
            async with self.service.lease(name, session=session, request_id=request_id) as lease:
                alias = self.service._fleet.alias(name)
                assert lease.key in (alias.active, alias.candidate)
                assert lease.deployment.state in (_S.SERVING, _S.CANARY)
                assert lease.model == (lease.slot.name if lease.slot else BASE)
                engine, said = self.service.engine, set()
                for _ in range(self.rng.randrange(1, 4)):
                    said.add(await lease.run(self.ask(engine, lease.slot)))
                    await self.pause(0.01)
                self.hear(lease.deployment.revision, said)
        except S3LoRAError as error:
            self.errors[type(error).__name__] += 1

    async def ask(self, engine, slot):
        message = {"role": "user", "content": "Who?"}
        before = await engine.score((1, 2, 3), slot)
        await engine.chat([message], slot, Sampling(max_tokens=self.rng.randrange(1, 20)))
        assert await engine.score((1, 2, 3), slot) == before
        return before  # tells every revision from every other

    def hear(self, revision, said):
        assert len(said) == 1, "a request changed its revision midway"
        assert self.answers.setdefault(revision.digest, said) == said

    # Orders

    async def operator(self):
        while not self.over:
            await self.pause(0.3)
            task = asyncio.create_task(self.order())
            if self.rng.random() < 0.15:
                await self.pause(0.01)
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def order(self):
        rng, control = self.rng, self.service.control
        name, wanted = rng.choice((*NAMES, "u")), Wanted(source=rng.choice((*NAMES, *SPARE, HOLLOW)))
        key = rng.choice((None, None, f"key{rng.randrange(40)}"))
        order = Order("operator", key=key)
        share = rng.choice((0.1, 0.5, 1.0))
        what = rng.randrange(9)
        try:
            if what < 2:
                op = await control.swap(name, wanted, order, force=rng.random() < 0.3)
            elif what == 2:
                op = await control.rollback(name, order)
            elif what == 3:
                to = rng.choice(list(self.shelf.revisions.values())).digest
                op = await control.rollback(name, order, to=to)
            elif what == 4:
                op = await control.canary(
                    name, wanted, order, share=share, promote_after=rng.choice((None, 5))
                )
            elif what == 5:
                op = await control.canary(name, wanted, order, share=share, shadow=True)
            elif what == 6:
                op = await control.canary(name, None, order, share=share)
            elif what == 7:
                op = await control.promote(name, order)
            else:
                op = await self.apply(order)
            if rng.random() < 0.3:
                await self.pause(rng.choice((0.001, 0.05)))
                await control.cancel(op.id, Order("operator"))
            elif rng.random() < 0.5:
                await asyncio.wait_for(self.fleet.done(op), 300)
        except S3LoRAError as error:
            self.errors[type(error).__name__] += 1

    async def apply(self, order):
        wants = {
            name: desired(
                self.rng.choice((name, name, *SPARE)),
                pinned=name in self.pinned,
                description=self.rng.choice(("", "another")),
            )
            for name in (*NAMES, "u")
            if self.rng.random() < 0.85
        }
        return await self.service.control.apply(wants, order)

    # Trouble

    async def chaos(self):
        while not self.over:
            await self.pause(1.0)
            engine, what = self.fleet.running, self.rng.randrange(6)
            engine.seconds_per_token = 0.002
            if what == 0:
                engine.die()
            elif what == 1:
                engine.die_during(self.rng.choice(("load", "unload", "score", "stream")))
            elif what == 2:
                engine.fail_load(self.rng.choice(("p@*", "*@4*", "*")), half=self.rng.random() < 0.5)
                await self.pause(0.3)
                engine.mend_loads()
            elif what == 3:
                self.disk_full = 0.5
                await self.pause(0.1)
                self.disk_full = 0.0
            elif what == 4:
                engine.slow_load(f"{self.rng.choice(NAMES)}@*", 0.2)

    async def watch(self):
        """What must hold at every moment."""
        while True:
            live = self.service._slots.live
            assert len(live) <= self.options["max_loras"]
            leased = {key for key, count in self.service._leases.counts().items() if count}
            for deployment in self.service._fleet.deployments():
                if deployment.slot is not None:
                    assert deployment.slot in live
                if deployment.key in leased:
                    assert deployment.state not in (_S.STANDBY, _S.UNLOADED)
            await asyncio.sleep(0.001)

    # The end

    async def calm(self):
        async with asyncio.timeout(500):
            while not self.service.host.alive or self.service._operations._running:
                await asyncio.sleep(0.05)
            self.fleet.running.mend_loads()
            await self.service.shadows.close()
            await asyncio.sleep(5)

    async def check(self):
        service, fleet = self.service, self.service._fleet
        assert service._leases.counts() == {}
        assert service._operations._deciding == {}
        room = service._loading._allocator
        left = (service._loading.waiting, room._reserved, room._held, room.yielding)
        assert left == (0, set(), {}, set())
        for deployment in fleet.deployments():
            role = fleet.role(deployment.key)
            if role is None:
                assert deployment.state is _S.STANDBY, deployment
            else:
                assert deployment.state in (role, _S.EVICTED, _S.FAILED), deployment
        assert await self.fleet.running.loaded() == {slot.id for slot in service._slots.live}
        held = {d.slot for d in fleet.deployments() if d.slot}
        assert held == set(service._slots.live)
        records = service.journal.planners()
        assert set(records) == set(fleet.names())
        for name, record in records.items():
            assert record == service._recovery._record(fleet.alias(name))
        assert [f for f in await service.control.verify() if not f.ok] == []
        for name in fleet.names():
            if service.get(name).state is not _S.FAILED:
                await self.request(name, None, "last")
        ids = {}
        for deployment in self.fleet.seen:
            if deployment.slot is not None:
                known = ids.setdefault(deployment.slot.id, deployment.slot)
                assert known == deployment.slot, "an id was used twice"
            assert "slots are taken" not in deployment.reason
        assert len({next(iter(said)) for said in self.answers.values()}) == len(self.answers) > 1
        assert self.fleet.starts.violations == []

    def reasons(self, fleet, name):
        return " ".join(entry.reason for entry in fleet.service.control.history(name))

    async def restart(self):
        """Another server over the same file serves the same."""
        meant = {name: self.service.get(name) for name in self.service._fleet.names()}
        await self.fleet.close()
        again = make_fleet(self.root, **{**self.options, "pinned": ()})
        again.desired.update({name: planner.alias.desired for name, planner in meant.items()})
        await again.start()
        for name, before in meant.items():
            after = again.service.get(name)
            assert after.revision.digest == before.revision.digest
            assert after.previous == before.previous
            if before.candidate is not None and after.candidate is None:  # the journal says why
                assert f"candidate {before.candidate.revision.short} is given up" in self.reasons(again, name)
            else:
                assert after.alias.candidate == before.alias.candidate
        assert again.service.journal.running() == []
        assert again.service.journal.verify() is None
        assert again.starts.violations == []
        await again.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_breaks_whatever_comes_together(tmp_path, shelf, monkeypatch, caplog, seed):
    """Random orders, requests, hang-ups, cancels, dead engines, failing loads and writes, interleaved.

    No request changes its revision midway, none starts on a deployment that its planner's name does not mean
    at that moment, no leased slot is unloaded, no slot id comes twice, there are never more slots than the
    engine has; and afterwards nothing is left over, memory is what the journal says, and so it is after a
    restart.
    """
    monkeypatch.setattr("s3lora_serve.serving.slot_allocator.TURN_SECONDS", 0.2)
    caplog.set_level(logging.CRITICAL, logger="s3lora_serve")
    rng = random.Random(seed)
    storm = Storm(rng, tmp_path, shelf)
    run_virtually(storm.run(), monkeypatch, rng)
