"""All that control knows of serving: one engine's deployments, and what the planners' names mean there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.fleet.deployment import Deployment
    from s3lora_serve.fleet.planner import Alias


class Replica(Protocol):
    """The port. Every change of a deployment or a name rings the notifier that it was made with.

    ``key`` is a deployment's key (``planner@sha12``). Methods that do not await change all or nothing.
    """

    # What is there now

    def names(self) -> tuple[str, ...]:
        """Every planner's name, in the order in which they came."""
        ...

    def alias(self, name: str) -> Alias:
        """What the name means. Raises UnknownPlanner."""
        ...

    def of(self, name: str) -> tuple[Deployment, ...]:
        """The planner's live deployments, oldest first."""
        ...

    def find(self, key: str) -> Deployment | None:
        """The live deployment of this key."""
        ...

    def revision(self, key: str) -> Revision:
        """The revision of a live deployment. Raises KeyError."""
        ...

    def meant(self, key: str) -> bool:
        """Whether a name means this deployment."""
        ...

    # Prepare, flip, drain, drop

    def held(self, key: str) -> AbstractAsyncContextManager[None]:
        """Keep the deployment in the engine, within, while it is decided about.

        If no name means it in the end, and it was loaded only for that, it is taken out again.
        """
        ...

    async def prepare(
        self, planner: str, revision: Revision, tell: Callable[[str], None], seconds: float
    ) -> Deployment:
        """The revision loaded and proved, in READY or in the loaded state that it was in already.

        The caller holds it. ``seconds`` limit the wait for a slot. Raises SlotsBusy, Conflict or what went
        wrong; then the engine holds nothing of it.
        """
        ...

    def flip(self, alias: Alias, *revisions: Revision) -> None:
        """Let the name mean this from now on, all of it at once; ``alias.generation`` counts the decisions.

        ``revisions`` are those behind its keys, since the engine's death may have taken deployments that were
        prepared: these are loaded on demand. What the name meant before is DRAINING afterwards; requests that
        run on it are not touched.
        """
        ...

    def remove(self, name: str) -> None:
        """Forget the name. What answered for it is DRAINING afterwards."""
        ...

    async def drain(self, key: str, seconds: float) -> tuple[tuple[str, ...], bool]:
        """Wait until no request runs on it; after ``seconds`` cut those that do.

        The ids of requests that were cut, and whether it is still DRAINING, and empty.
        """
        ...

    async def keep(self, key: str) -> Deployment | None:
        """Keep a drained deployment loaded, in STANDBY, once no order holds it; None if it serves again."""
        ...

    async def drop(self, deployment: Deployment, *, patient: bool = False) -> bool:
        """Take it out of the engine for good, and say whether it went; what changed meanwhile stays.

        It stays while a name means it, a request runs on it, or an order holds it; ``patient`` waits for the
        last of these.
        """
        ...

    def discard(self, key: str) -> None:
        """Forget a deployment that came to nothing; one that a name means or a slot holds stays."""
        ...

    # A start, and an engine that came back

    async def restore(self, planners: Sequence[tuple[Alias, Revision]]) -> None:
        """Let the names mean this, and load and prove each, pinned ones last so that their slots stay.

        With more planners than slots each is loaded once all the same: a defect must show at the start, not
        with the first request. One that fails is FAILED with its reason, one that is withheld is not
        loaded, one that its exam keeps from serving is withheld from then on. Raises EngineDead.
        """
        ...

    async def restore_candidate(self, alias: Alias, candidate: Revision) -> None:
        """Let the name have a candidate again, loaded and proved. If that fails it has none; raises why."""
        ...

    async def reload(self) -> None:
        """After the engine came back: load again what the names mean, as far as slots go.

        The rest is loaded on demand. Raises EngineDead if it died again.
        """
        ...

    async def engine_agrees(self) -> tuple[bool, str]:
        """Whether the engine holds what is thought to be loaded, and nothing else; in words."""
        ...
