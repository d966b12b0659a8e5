"""What operators order: swap, rollback, canary, promote, exam, apply; checked, begun, run in background"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.control.orders.apply import apply
from s3lora_serve.control.orders.canary import canary
from s3lora_serve.control.orders.examine import examine
from s3lora_serve.control.orders.promote import promote
from s3lora_serve.control.orders.rollback import rollback
from s3lora_serve.control.orders.swap import swap
from s3lora_serve.errors import ConfigError
from s3lora_serve.fleet.rollout import RolloutOrder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.journal.chain import Head
    from s3lora_serve.control.journal.entry import Entry
    from s3lora_serve.control.journal.journal import Journal
    from s3lora_serve.control.journal.journal_findings import AuditFinding
    from s3lora_serve.control.operation import Operation, Order, Wanted
    from s3lora_serve.control.orders.exam_port import Exams
    from s3lora_serve.control.orders.execution import Execution
    from s3lora_serve.fleet.planner import DesiredPlanner
    from s3lora_serve.fleet.work_threads import WorkThreads
    from s3lora_serve.safety.exam.kept_exam import KeptExam


class Orders:
    """Orders from the admin routes, SIGHUP and the rules. Every method may raise UnknownPlanner,
    Conflict and StateError; whatever fails later is in the operation, and what served before still serves.
    """

    def __init__(
        self,
        run: Execution,
        journal: Journal,
        read: Callable[[], Mapping[str, DesiredPlanner]] | None = None,
        check: Callable[[Head | None], Awaitable[list[AuditFinding]]] | None = None,
        base_model: str = "",
        exams: Exams | None = None,
        *,
        threads: WorkThreads,
    ) -> None:
        """``read`` reads planners.yaml again, ``check`` compares journal, store and engine, ``exams`` ask.

        No planner may have the name ``base_model``.
        """
        self._run = run
        self._journal = journal
        self._read = read
        self._check = check
        self._base_model = base_model
        self._threads = threads
        self._exams = exams

    async def swap(
        self, name: str, wanted: Wanted, order: Order, *, dry_run: bool = False, force: bool = False
    ) -> Operation:
        """Serve another revision. A dry run admits it and says what would change.

        While a candidate is on trial only with ``force``, which gives it up.
        """
        return await self._run.whole(
            order, lambda: swap(self._run, name, wanted, order, dry_run=dry_run, force=force)
        )

    async def rollback(self, name: str, order: Order, *, to: str | None = None) -> Operation:
        """Serve the revision before, or ``to``; with a candidate on trial and no ``to``, give that up.

        When the revision is still loaded, the planner answers from it before this returns.
        """
        return await self._run.whole(
            order, lambda: rollback(self._run, name, order, to=to, exams=self._exams)
        )

    async def canary(
        self,
        name: str,
        wanted: Wanted | None,
        order: Order,
        *,
        share: float | None = None,
        shadow: bool | None = None,
        promote_after: int | None = None,
    ) -> Operation:
        """Try another revision on a share of the requests; with ``wanted`` None change how the one that is on
        trial is tried: what is None stays as it is. Raises ConfigError for terms that mean nothing.
        """
        terms = RolloutOrder(share, shadow, promote_after)
        return await self._run.whole(order, lambda: canary(self._run, name, wanted, order, terms))

    async def promote(self, name: str, order: Order) -> Operation:
        """Serve the candidate's revision to everybody."""
        return await self._run.whole(order, lambda: promote(self._run, name, order))

    async def examine(self, name: str, wanted: Wanted | None, order: Order) -> Operation:
        """Examine what is wanted, or with None what the planner serves; nothing flips.

        A kept verdict that is not stale is the answer. ``exam.action`` need not be on: the planner's other
        settings hold. Raises ConfigError where nothing can be examined.
        """
        if (exams := self._exams) is None:
            raise ConfigError("this server was put together without exams")
        return await self._run.whole(order, lambda: examine(self._run, exams, name, wanted, order))

    async def apply(
        self, desired: Mapping[str, DesiredPlanner], order: Order, *, dry_run: bool = False
    ) -> Operation:
        """Bring the fleet to what ``desired`` declares: all of it, or nothing when one part fails.

        Raises ConfigError for a planner with the base model's name.
        """
        if self._base_model in desired:
            raise ConfigError(
                f"planner {self._base_model!r} has the name of the base model",
                hint="give one of them another name",
            )
        return await self._run.whole(order, lambda: apply(self._run, desired, order, dry_run=dry_run))

    async def reload(self, order: Order, *, dry_run: bool = False) -> Operation:
        """Apply planners.yaml as it is now. Raises ConfigError, naming every problem of it."""
        if self._read is None:
            raise ConfigError("this server was started without a planners.yaml to read again")
        return await self.apply(await self._threads.files.run(self._read), order, dry_run=dry_run)

    async def cancel(self, id_: str, order: Order) -> Operation:
        """End an operation that has not flipped; what it began is taken back, what serves stays.

        One that was cancelled already is returned as it ended. Raises UnknownOperation; Conflict for one that
        has flipped, or ended otherwise.
        """
        return await self._run.whole(order, lambda: self._run.operations.cancel(id_, order))

    # Questions

    async def verify(self, noted: Head | None = None) -> list[AuditFinding]:
        """Whether journal, store and engine agree with each other and with what was written once.

        ``noted`` is a head of the journal that was kept elsewhere.
        """
        return await self._check(noted) if self._check else []

    async def kept_exam(self, name: str, revision: Revision) -> KeptExam | None:
        """What is kept of a revision's exam, by the planner's settings; asks no engine."""
        return None if self._exams is None else await self._exams.kept(name, revision)

    def operation(self, id_: str) -> Operation:
        """Raises UnknownOperation."""
        return self._run.operations.get(id_)

    @property
    def recent(self) -> tuple[Operation, ...]:
        """Operations that run, and the last ones that ended while this process ran; asks no disk."""
        return self._run.operations.recent

    def operations(self, limit: int = 50) -> list[Operation]:
        """The newest first."""
        return self._run.operations.list(limit)

    async def wait(self, id_: str, seconds: float, seen: str | None = None) -> Operation:
        """The operation once it changes, or after ``seconds``; at once if its step is not ``seen``.

        Raises UnknownOperation.
        """
        return await self._run.operations.wait(id_, seconds, seen)

    def history(self, planner: str | None = None, after: int = 0, limit: int = 100) -> list[Entry]:
        """Journal entries, the newest first; ``after`` is a sequence number that they exceed."""
        return list(self._journal.entries(planner=planner, after=after, limit=limit, newest_first=True))

    async def close(self) -> None:
        """Leave running operations to the next start."""
        await self._run.close()
        await self._run.steps.close()
