"""Leases: which requests run on which deployment, so that none changes or loses its adapter midway."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from s3lora_serve.errors import LeaseCut, ShuttingDown
from s3lora_serve.fleet.unless import unless

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from s3lora_serve.engine.port import Slot
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.notify import Notifier

T = TypeVar("T")
Role = Literal["active", "canary", "shadow"]
LeaseOutcome = Literal["ok", "error", "invalid", "refused", "aborted"]

_numbers = itertools.count(1)
_TOLD_SECONDS = 1.0  # for clients of cut requests to read that


@dataclass(eq=False)
class Lease:
    """One request's hold on one deployment, from its lookup to its end.

    ``outcome`` and tokens are for the holder to set: they feed the rollback rules and the access log.
    """

    deployment: Deployment  # as it was when the lease was taken; revision and slot do not change
    model: str  # what the engine's OpenAI routes know it by: the slot's name, or the base model's
    role: Role
    request_id: str
    session: str | None = None
    outcome: LeaseOutcome = "ok"  # invalid: it answered, but not with a plan; refused: the request was wrong
    tokens: int | None = None  # generated
    prompt_tokens: int | None = None
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None  # once it was given back
    cut: asyncio.Event = field(default_factory=asyncio.Event)  # set: stop, the time for it has passed
    left: bool = False  # whether its work has left the engine for good: what remains is to answer the client
    stopping: bool = False  # whether it was the server's time, not the revision's
    withheld: bool = False  # whether the guard kept the answer back
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def key(self) -> str:
        """The deployment's key."""
        return self.deployment.key

    @property
    def slot(self) -> Slot | None:
        """The engine's slot; None when the base model answers."""
        return self.deployment.slot

    def withhold(self) -> None:
        """Its answer does not leave: nothing is told of that, and it says nothing of the revision."""
        self.withheld, self.outcome, self.tokens = True, "aborted", 0

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, which is cancelled when the lease is cut. Raises LeaseCut, ShuttingDown."""
        # The work has left the engine before the lease is given back.
        return await unless(self.cut, work, self.error)

    def error(self) -> LeaseCut | ShuttingDown:
        """What the client of a cut lease is told."""
        if self.stopping:
            return ShuttingDown.told()
        return LeaseCut(
            f"planner {self.deployment.planner!r} was given another revision, and this request outlasted the"
            f" time to finish on {self.deployment.revision.short}",
            hint="send it again; swap.drain_seconds sets the time",
        )


class LeaseBook:
    """Every lease that is held. No method but ``drained`` awaits: taking one is part of the lookup."""

    def __init__(self, notifier: Notifier, ended: Callable[[Lease], None]) -> None:
        """``ended`` is called with each lease that was given back."""
        self._notifier = notifier
        self._ended = ended
        self._held: dict[str, dict[int, Lease]] = {}
        self.stopped = asyncio.Event()  # whether every request is cut

    def stop(self) -> None:
        """Cut every lease, and let no more be taken: the server's time is over."""
        self.stopped.set()
        for held in self._held.values():
            for lease in held.values():
                lease.stopping = True
                lease.cut.set()
        self._notifier.ring()

    def take(self, lease: Lease) -> None:
        """Hold it from now on. Raises ShuttingDown."""
        if self.stopped.is_set():
            raise ShuttingDown.told()
        self._held.setdefault(lease.key, {})[lease.number] = lease

    def give_back(self, lease: Lease) -> None:
        """End it; a second time does nothing."""
        held = self._held.get(lease.key, {})
        if held.pop(lease.number, None) is None:
            return
        if not held:
            del self._held[lease.key]
        lease.seconds = time.monotonic() - lease.started
        self._ended(lease)
        self._notifier.ring()

    def count(self, key: str) -> int:
        """Leases held on this deployment."""
        return len(self._held.get(key, {}))

    def counts(self) -> Mapping[str, int]:
        """Leases held, by deployment; those without any are absent."""
        return {key: len(held) for key, held in self._held.items()}

    async def drained(
        self, key: str, seconds: float, still: Callable[[], bool]
    ) -> tuple[tuple[str, ...], bool]:
        """Wait until no lease is held on ``key``; after ``seconds`` cut those that are, and await their end.

        The end of a request whose work has left the engine is not awaited for long: its client may read
        nothing. Gives up as soon as ``still()`` is false (the deployment serves again). Returns the request
        ids that were cut, and whether it is empty.
        """

        def over() -> bool:
            return not self.count(key) or not still()

        if await self._notifier.until(over, seconds):
            return (), not self.count(key)
        cut = tuple(self._held.get(key, {}).values())
        for lease in cut:
            lease.cut.set()
        while not await self._notifier.until(over, _TOLD_SECONDS):
            for lease in cut:
                if lease.left:
                    lease.outcome = "aborted"
                    self.give_back(lease)
        return tuple(lease.request_id for lease in cut), not self.count(key)
