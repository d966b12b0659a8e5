"""One column from its start to its end: the same phases for each, and what was seen in them."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from bisect import bisect
from collections import Counter
from typing import TYPE_CHECKING

from answers import REVISIONS_OF, SWAPPED, Answer, Timeline, judge
from load import Load
from process import ServerFailed
from record import Plan, Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from column import Column
    from telltale import Words

MOST_CRASHES = 4  # of the server by itself in one part of the run, which is then given up
RECOVERY_LIMIT = 300.0  # seconds


class DiesTooOften(RuntimeError):
    """Swaps under load end the server again and again."""


class Session:
    """Drives one column through its phases."""

    def __init__(self, column: Column, words: Words, plan: Plan, log: Path) -> None:
        self._column = column
        self._words = words
        self._plan = plan
        self._log = log
        self._load = Load(column.process.url, column.base_model)
        self._active = {name: revisions[0] for name, revisions in REVISIONS_OF.items()}
        self._timelines = {name: Timeline() for name in REVISIONS_OF}
        self._crashes_left = MOST_CRASHES
        self._phases: list[tuple[float, str]] = []  # since when which phase
        self.record = Record(column.name, column.title)

    async def run(self) -> Record:
        """All phases. What a crash leaves undone is left out, and noted."""
        process = self._column.process
        try:
            self._say("starting")
            self.record.start_seconds = process.start()
            await self._prepared()
            await self._warm_up()
            for part in (self._first_time, self._blocks, self._rollbacks):
                self._crashes_left = MOST_CRASHES
                try:
                    await part()
                except DiesTooOften as often:
                    self.record.notes.append(str(often))
                    self._say(str(often))
            await self._alone()
            await self._deaths()
        except ServerFailed as failed:
            self.record.notes.append(f"given up: {failed}")
            self._say(f"given up: {failed}")
        finally:
            self._settle()
            process.stop()
        return self.record

    async def _prepared(self) -> None:
        began = time.monotonic()
        await self._column.prepare(self._active)
        now = time.monotonic()
        for name, revision in self._active.items():
            span = self._timelines[name].ordered(revision, began)
            self._timelines[name].flipped(span, now)

    async def _warm_up(self) -> None:
        """Every planner and the base model answer as they should before anything is counted."""
        for planner in (*REVISIONS_OF, None, *REVISIONS_OF):
            answer = await self._load.once(planner, tokens=8, limit=120)
            self._check(answer)

    def _check(self, answer: Answer) -> None:
        verdict = self._verdict(answer)
        if verdict != "ok":
            raise ServerFailed(f"{answer.planner} answers before any swap: {verdict}: {answer.brief()}")

    async def _first_time(self) -> None:
        """Each revision once, from its source: the server has not seen it before."""
        async with self._phase("first"), self._load.running():
            for index in range(1, len(REVISIONS_OF[SWAPPED[0]])):
                for planner in SWAPPED:
                    await self._swap(planner, REVISIONS_OF[planner][index], "source")
                    await asyncio.sleep(self._plan.interval)

    async def _blocks(self) -> None:
        """Quiet phases and swaps in turn."""
        plan = self._plan
        turns = self._turns()
        self.record.memory["0"] = self._column.process.memory()
        counted = 0
        for block in range(plan.blocks):
            async with self._load.running():
                async with self._phase("quiet"):
                    await asyncio.sleep(plan.quiet)
                async with self._phase("swaps"):
                    share = plan.swaps * (block + 1) // plan.blocks - plan.swaps * block // plan.blocks
                    for planner, revision in itertools.islice(turns, share):
                        await self._swap(planner, revision, "revision")
                        counted += 1
                        if counted == 10:
                            self.record.memory["10"] = self._column.process.memory()
                        await asyncio.sleep(plan.interval)
            self.record.memory[str(counted)] = self._column.process.memory()
            self._say(f"block {block + 1} of {plan.blocks}: {self._so_far()}")

    async def _alone(self) -> None:
        """Swaps while nobody asks."""
        async with self._phase("alone"):
            for planner, revision in itertools.islice(self._turns(), self._plan.alone):
                await self._swap(planner, revision, "revision")
                await asyncio.sleep(0.1)

    async def _rollbacks(self) -> None:
        """Under load: a swap, and soon after it the way back."""
        async with self._phase("rollbacks"), self._load.running():
            for planner, revision in itertools.islice(self._turns(), self._plan.rollbacks):
                before = self._active[planner]
                await self._swap(planner, revision, "revision")
                await asyncio.sleep(1.0)
                await self._swap(planner, before, "rollback")
                await asyncio.sleep(1.0)

    async def _deaths(self) -> None:
        """SIGKILL the engine's process, then the server itself; each until alpha answers rightly again."""
        process = self._column.process
        for _ in range(self._plan.deaths):
            async with self._phase("engine killed"):
                process.kill_engine()
                began = time.perf_counter()
                await self._until_down()
                await self._recover("engine", began)
            await asyncio.sleep(2)
            async with self._phase("server killed"):
                began = time.perf_counter()
                left = await asyncio.to_thread(process.kill)
                self.record.orphans.append(left)
                await self._recover("server", began)
            await asyncio.sleep(2)

    async def _until_down(self) -> None:
        """Until the server notices, so that no answer of before is taken for one of after."""
        began = time.perf_counter()
        while self._column.process.ready() and time.perf_counter() - began < 60:
            await asyncio.sleep(0.02)
        self.record.recovery.setdefault("engine: noticed", []).append(time.perf_counter() - began)

    async def _recover(self, what: str, began: float) -> None:
        """Until alpha answers from the revision that served before; what ends is started again."""
        process = self._column.process
        while time.perf_counter() - began < RECOVERY_LIMIT:
            if not process.running:
                await self._restart()
            answer = await self._load.once("alpha", limit=30)
            if not answer.error and self._verdict(answer) == "ok":
                self.record.recovery.setdefault(f"{what}: first answer", []).append(
                    time.perf_counter() - began
                )
                self._say(f"{what} killed: right again after {time.perf_counter() - began:.1f} s")
                return
            if not answer.error:
                self.record.notes.append(f"after {what} was killed: {answer.brief()}")
            await asyncio.sleep(0.1)
        raise ServerFailed(f"no right answer {RECOVERY_LIMIT:g} s after the {what} was killed")

    async def _restart(self) -> None:
        process = self._column.process
        await asyncio.to_thread(process.kill)  # what the dead server left behind
        await asyncio.to_thread(process.start)
        await self._prepared()

    def _turns(self) -> Iterator[tuple[str, int]]:
        """Planners in turn, each going round its revisions, from the one that serves now."""
        while True:
            for planner in SWAPPED:
                revisions = REVISIONS_OF[planner]
                yield planner, revisions[(revisions.index(self._active[planner]) + 1) % len(revisions)]

    async def _swap(self, planner: str, revision: int, way: str) -> None:
        timeline = self._timelines[planner]
        span = timeline.ordered(revision, time.monotonic())
        rolling = way == "rollback"
        call = (
            self._column.rollback(planner, revision) if rolling else self._column.swap(planner, revision, way)
        )
        swap = await call
        swap.phase = self._load.phase
        self.record.swaps.append(swap)
        if not swap.error:
            timeline.flipped(span, time.monotonic())
            self._active[planner] = revision
        elif self._column.process.running:
            self._say(f"swap of {planner} to r{revision:02d} failed: {swap.error[:200]}")
            if self._column.name == "ours":  # it says that what served before still does
                timeline.refused(span, time.monotonic())
            await self._until_ended()
        if not self._column.process.running:
            await self._crashed()

    async def _until_ended(self) -> None:
        """A server whose engine died ends a little later; ours stays, and starts its engine again."""
        began = time.perf_counter()
        while (
            self._column.process.running
            and not self._column.process.ready()
            and time.perf_counter() - began < RECOVERY_LIMIT
        ):
            await asyncio.sleep(0.1)

    async def _crashed(self) -> None:
        """The server ended by itself: note it, start it again as a supervisor would."""
        cause = self._column.process.cause()
        self.record.crashes.append({"after_swaps": len(self.record.swaps), "cause": cause})
        self._say(f"the server died: {cause}")
        began = time.perf_counter()
        await self._restart()
        self.record.crashes[-1]["seconds_down"] = time.perf_counter() - began
        self._crashes_left -= 1
        if not self._crashes_left:
            tried = sum(swap.phase == self._load.phase for swap in self.record.swaps)
            raise DiesTooOften(f"phase {self._load.phase} given up after {tried} swaps, {MOST_CRASHES} fatal")

    def _phase(self, name: str) -> _Phase:
        return _Phase(self, name)

    def enter(self, name: str) -> None:
        """Begin a phase: answers that begin from now on are its."""
        self._settle()
        self._load.phase = name
        self._phases.append((time.monotonic(), name))

    def leave(self, name: str, seconds: float) -> None:
        """End it."""
        self._phases.append((time.monotonic(), "between"))
        self.record.phase_seconds[name] = self.record.phase_seconds.get(name, 0.0) + seconds
        self._settle()

    def _settle(self) -> None:
        """Judge the answers that have ended since the last time."""
        for answer in self._load.take():
            verdict = self._verdict(answer)
            self.record.verdicts.setdefault(answer.phase, Counter())[verdict] += 1
            self.record.tokens[answer.phase] = self.record.tokens.get(answer.phase, 0) + len(answer.chunks)
            if answer.client == "gamma-1" and verdict == "ok":
                self._count_gaps(answer)
            if verdict == "failed":
                self.record.errors[_kind(answer)] += 1
            if verdict != "ok":
                with self._log.open("a") as file:
                    file.write(json.dumps({"verdict": verdict, **answer.brief()}) + "\n")

    def _count_gaps(self, answer: Answer) -> None:
        """Each gap to the phase that it lies in; one across a boundary to none."""
        for earlier, later in itertools.pairwise(answer.chunks):
            phases = {self._phases[bisect(self._phases, (at, "~")) - 1][1] for at in (earlier, later)}
            if len(phases) == 1:
                self.record.gaps.setdefault(phases.pop(), []).append(later - earlier)

    def _verdict(self, answer: Answer) -> str:
        possible: set[int] = set()
        if answer.planner is not None:
            possible = self._timelines[answer.planner].possible(answer.started, answer.ended)
        leased = self._column.revision_of(answer.leased) if answer.planner and answer.leased else None
        return judge(answer, self._words, possible, leased)

    def _so_far(self) -> str:
        totals: Counter[str] = Counter()
        for verdicts in self.record.verdicts.values():
            totals.update(verdicts)
        return ", ".join(f"{count} {verdict}" for verdict, count in sorted(totals.items()))

    def _say(self, what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {self._column.name:8} {what}", file=sys.stderr, flush=True)


class _Phase:
    """``async with``: the answers that begin inside belong to the phase."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = time.perf_counter()
        self._session.enter(self._name)

    async def __aexit__(self, *_: object) -> None:
        self._session.leave(self._name, time.perf_counter() - self._began)


def _kind(answer: Answer) -> str:
    """Failures of one kind under one word."""
    if answer.status not in (0, 200):
        return f"HTTP {answer.status}"
    if answer.error.startswith("{"):
        return "an error in the stream"
    return answer.error.split(":")[0][:80] or "empty answer"
