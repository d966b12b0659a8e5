"""A control that does as it is told and remembers its orders, for tests of what stands in front of it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
from revision_factory import make_revision

from s3lora_serve.control.operation import Kind, Operation, Order, Step
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import UnknownOperation, UnknownPlanner
from s3lora_serve.fleet.deployment import Deployment, DeploymentState
from s3lora_serve.fleet.leases import LeaseBook
from s3lora_serve.fleet.notify import Notifier
from s3lora_serve.fleet.planner import Alias, DesiredPlanner, Planner
from s3lora_serve.fleet.stop import Stop
from s3lora_serve.fleet.work_threads import WorkThreads
from s3lora_serve.safety.guard.guards import Guards
from s3lora_serve.server.admin.admin_app import create_admin_app
from s3lora_serve.service.metrics.prometheus import Metrics
from s3lora_serve.spectral.prune_policy import PrunePolicy

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.safety.exam.kept_exam import KeptExam

NEW = "f" * 64
TOKEN = "an-operators-token"


class StubControl:
    """Answers each order with a running operation, or as ``ends`` and ``raises`` say."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple, dict]] = []
        self.step = Step.LOADING
        self.raises: Exception | None = None
        self.known: dict[str, Operation] = {}
        self.entries: list[SimpleNamespace] = []
        self.findings: list[SimpleNamespace] = []
        self.exam: KeptExam | None = None

    async def swap(self, *args, **options):
        return self._begin(Kind.SWAP, "swap", args, options)

    async def rollback(self, *args, **options):
        return self._begin(Kind.ROLLBACK, "rollback", args, options)

    async def canary(self, *args, **options):
        return self._begin(Kind.CANARY, "canary", args, options)

    async def promote(self, *args, **options):
        return self._begin(Kind.PROMOTE, "promote", args, options)

    async def examine(self, *args, **options):
        return self._begin(Kind.EXAM, "examine", args, options)

    async def kept_exam(self, name, revision):
        self.calls.append(("kept_exam", (name, revision.digest), {}))
        return self.exam

    async def reload(self, *args, **options):
        return self._begin(Kind.APPLY, "reload", args, options)

    async def cancel(self, id_: str, order: Order) -> Operation:
        self.calls.append(("cancel", (id_, order), {}))
        if self.raises is not None:
            raise self.raises
        found = dataclasses.replace(self.operation(id_), step=Step.CANCELLED, ended_at=1_700_000_001.0)
        self.known[id_] = found
        return found

    def operation(self, id_: str) -> Operation:
        if id_ not in self.known:
            raise UnknownOperation(f"there is no operation {id_!r}")
        return self.known[id_]

    def operations(self, limit: int) -> list[Operation]:
        return list(reversed(self.known.values()))[:limit]

    async def wait(self, id_: str, seconds: float, seen: str | None = None) -> Operation:
        self.calls.append(("wait", (id_, seconds), {"seen": seen}))
        found = self.operation(id_)
        self.known[id_] = dataclasses.replace(found, step=Step.DONE, ended_at=found.started_at + 1)
        return self.known[id_]

    def history(self, planner=None, after=0, limit=100):
        self.calls.append(("history", (planner, after, limit), {}))
        return self.entries

    async def verify(self, noted=None):
        self.calls.append(("verify", (noted,), {}))
        return self.findings

    def _begin(self, kind: Kind, name: str, args: tuple, options: dict) -> Operation:
        self.calls.append((name, args, options))
        if self.raises is not None:
            raise self.raises
        order = next(arg for arg in args if isinstance(arg, Order))
        operation = Operation(
            id=f"op-{len(self.known) + 1}",
            kind=kind,
            planner=None if kind is Kind.APPLY else args[0],
            order=order,
            step=self.step,
            started_at=1_700_000_000.0,
            from_digest="0" * 64,
        )
        self.known[operation.id] = operation
        return operation


class StubService:
    """Planner p, serving, with a canary; enough of a service for the operators' routes."""

    engine_kind = EngineKind.VLLM

    def __init__(self, store: Path) -> None:
        self.threads = WorkThreads.of(admissions=1)
        self.control = StubControl()
        self.metrics = Metrics()
        self.guards = Guards({}, {})
        self.stop = Stop(LeaseBook(Notifier(), lambda lease: None), Notifier())
        self.shadows = SimpleNamespace(stats=lambda name: None)
        self.exams = SimpleNamespace(facts=lambda deployment: None)
        path = store / "revisions" / ("0" * 64)
        revision = make_revision(path, digest="0" * 64, source=str(store / "sources" / "p"))
        self.active = Deployment("p", revision, DeploymentState.SERVING)
        other = make_revision(store / "revisions" / NEW, digest=NEW)
        self.failed = Deployment("p", other, DeploymentState.FAILED, reason=f"no file {path}/x")
        alias = Alias("p", DesiredPlanner.of("demo://p", PrunePolicy()), self.active.key, generation=3)
        self.planner = Planner(alias, self.active, None, (self.failed,), {self.active.key: 2})

    def planners(self):
        return (self.planner,)

    def get(self, name: str) -> Planner:
        if name != "p":
            raise UnknownPlanner(f"there is no planner {name!r}; planners: p")
        return self.planner

    def state_of(self, planner: Planner):
        return planner.state, planner.active.reason

    async def healthy(self) -> bool:
        return True


def operators_client(service: StubService, *terms: object, **headers: str) -> httpx.AsyncClient:
    """A client of the operators' application, at 127.0.0.9 and under a name that is not this machine's."""
    transport = httpx.ASGITransport(create_admin_app(service, TOKEN, *terms), client=("127.0.0.9", 5))
    return httpx.AsyncClient(transport=transport, base_url="http://ops.example", headers=headers)
