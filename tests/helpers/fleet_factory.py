"""A started service over the fake engine, for tests of the runtime and the server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adapters_factory import write_adapter
from fake_starts import FakeStarts
from faulty_engine import FaultyEngine
from revision_factory import make_revision

from s3lora_serve.control.journal.journal import Journal
from s3lora_serve.control.journal.reconciliation import reconcile
from s3lora_serve.errors import SourceError, StoreError
from s3lora_serve.fleet.planner import DesiredPlanner
from s3lora_serve.service.planner_service import CHECKS, PlannerService
from s3lora_serve.serving.engine_supervisor import EngineSupervisor
from s3lora_serve.spectral.prune_policy import PrunePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from planners import ToolSpec
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.operation import Operation, Wanted
    from s3lora_serve.control.orders.orders import Orders
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.safety.guard.guards import Guards
    from s3lora_serve.service.service_exams import ExamSetup
    from s3lora_serve.serving.checks.check import Check

BASE = "fake-base"
KEY = "correct-horse-battery-staple"


class Shelf:
    """Admission without scoring: what was put on it is admitted by its source's name.

    The adapters lie in ``root / "my store"``, whose path must never be told to a client.
    """

    def __init__(self, root: Path) -> None:
        self.root = root / "my store"
        self.revisions: dict[str, Revision] = {}  # by source
        self.admitted: list[str] = []
        self.before: Callable[[], None] = lambda: None  # runs in the admitting thread

    def put(self, source: str, *, hollow: bool = False) -> Revision:
        """A new revision under this source; ``hollow``: every module was pruned."""
        number = len(self.revisions)
        folder = self.root / source
        folder.mkdir(parents=True)
        write_adapter(folder, seed=number, layers=range(2))
        pruned = (0, 1, 2) if hollow else (2,)
        digest = f"{number:x}" * 64 if number < 16 else f"{number:064x}"[::-1]
        self.revisions[source] = make_revision(folder, digest=digest, source=str(folder), pruned=pruned)
        return self.revisions[source]

    def permit(self, wanted: Wanted) -> None:
        """As ``Admission.permit``, of anything."""

    def admit(self, planner: str, wanted: Wanted, progress: Callable[[str, float], None]) -> Revision:
        """As ``Admission.admit``."""
        self.before()
        progress("score", 0.5)
        self.admitted.append(str(wanted.source))
        if wanted.source not in self.revisions:
            raise SourceError(f"{wanted.source}: there is no such adapter")
        return self.revisions[wanted.source]

    def restore(self, digest: str) -> Revision:
        """As ``Admission.restore``."""
        for revision in self.revisions.values():
            if revision.digest.startswith(digest):
                return revision
        raise StoreError(f"revision {digest[:12]} is not in the store")


@dataclass
class Fleet:
    """The first engine, the service over it, and every deployment's state that the service passed through."""

    engine: FaultyEngine
    service: PlannerService
    shelf: Shelf
    desired: dict[str, DesiredPlanner]
    seen: list[Deployment] = field(default_factory=list)
    starts: FakeStarts = field(default_factory=FakeStarts)  # makes the next engine when one has died

    @property
    def control(self) -> Orders:
        """Where orders go."""
        return self.service.control

    @property
    def running(self) -> FaultyEngine:
        """The engine that was started last."""
        return self.starts.current

    @property
    def steps(self) -> dict[str, list[str]]:
        """Each planner's states, in order."""
        steps: dict[str, list[str]] = {}
        for deployment in self.seen:
            states = steps.setdefault(deployment.planner, [])
            if states[-1:] != [deployment.state.value]:  # a value changes within a state, too
                states.append(deployment.state.value)
        return steps

    async def start(self, **options: bool) -> Fleet:
        """Start the engine's host and the service, as the command does; ``options`` are reconcile's."""
        found = reconcile(self.service.journal, self.desired, **options)
        await self.service.host.start()
        revisions = {name: self.shelf.revisions[want.source] for name, want in self.desired.items()}
        records = found.records(self.service.journal.planner_rows())
        for name in self.desired:
            if name in records and records[name].declared == self.desired[name].declared:
                revisions[name] = self.shelf.restore(records[name].active)
        await self.service.start(self.desired, revisions, found)
        if all(planner.up or planner.alias.withheld for planner in self.service.planners()):
            await self.service.commit()
        return self

    async def close(self) -> None:
        """Stop as the command does."""
        await self.service.close()
        await self.service.host.close()
        self.service.journal.close()

    async def done(self, operation: Operation) -> Operation:
        """The operation, ended."""
        while not operation.step.ended:
            operation = await self.service.control.wait(operation.id, 10)
        return operation


def desired(source: str, **more: object) -> DesiredPlanner:
    """What planners.yaml would say."""
    return DesiredPlanner(source=source, declared=f"declared {source}", policy=PrunePolicy(), **more)


def make_fleet(
    root: Path,
    *names: str,
    hollow: tuple[str, ...] = (),
    pinned: tuple[str, ...] = (),
    shelf: Shelf | None = None,
    read: object = None,
    slots: object = None,
    checks: Sequence[Check] = CHECKS,
    swap: object = None,
    rules: object = None,
    tools: Mapping[str, tuple[ToolSpec, ...]] | None = None,
    watchdog: Mapping[str, float] | None = None,
    guards: Guards | None = None,
    exams: ExamSetup | None = None,
    engine_type: type[FaultyEngine] = FaultyEngine,
    **engine: object,
) -> Fleet:
    """A fleet that is not started: ``names`` have an adapter each, ``hollow`` ones were fully pruned.

    ``tools``: planner → its own tools; ``watchdog``: seconds of the supervisor's.
    """
    first = engine_type(base_name=BASE, **engine)
    made = [first]
    starts = FakeStarts(lambda: made.pop() if made else engine_type(base_name=BASE, **engine))
    shelf = shelf or Shelf(root)
    for name in (*names, *hollow):
        if name not in shelf.revisions:
            shelf.put(name, hollow=name in hollow)
    wants = {
        name: desired(
            name,
            description="a test planner",
            pinned=name in pinned,
            tools=(tools or {}).get(name, ()),
        )
        for name in (*names, *hollow)
    }
    seen: list[Deployment] = []
    service = PlannerService(
        EngineSupervisor(starts, backoff=(0.0,), poll_seconds=0.005, **(watchdog or {})),
        Journal(root / "state.db"),
        shelf,
        base_model=BASE,
        slots=slots,
        checks=checks,
        swap=swap,
        rules=rules,
        read=read,
        watch=seen.append,
        guards=guards,
        exams=exams,
    )
    return Fleet(first, service, shelf, wants, seen, starts)
