"""The fleet in memory: what each planner's name means, and every live deployment."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from s3lora_serve.errors import Conflict, UnknownPlanner
from s3lora_serve.fleet.deployment import Deployment, DeploymentState
from s3lora_serve.fleet.planner import Alias, Planner
from s3lora_serve.fleet.slots import slot_name
from s3lora_serve.fleet.states import LOADED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.fleet.notify import Notifier
    from s3lora_serve.fleet.proof import Proof

log = logging.getLogger(__name__)

_S = DeploymentState


class Fleet:
    """Aliases and deployments. Nothing here awaits, so that each change is seen whole or not at all."""

    def __init__(self, notifier: Notifier, watch: Callable[[Deployment], None] | None = None) -> None:
        """``watch`` sees a deployment at each change of state."""
        self._notifier = notifier
        self._watch = watch
        self._aliases: dict[str, Alias] = {}
        self._deployments: dict[str, Deployment] = {}

    # Names

    def names(self) -> tuple[str, ...]:
        """Every planner's name, in the order in which they came."""
        return tuple(self._aliases)

    def alias(self, name: str) -> Alias:
        """What the name means. Raises UnknownPlanner, which lists the known ones."""
        if (alias := self._aliases.get(name)) is None:
            known = ", ".join(sorted(self._aliases)) or "none"
            shown = name if len(name) <= 80 else name[:77] + "..."
            raise UnknownPlanner(f"there is no planner {shown!r}; planners: {known}")
        return alias

    def place(self, alias: Alias, *revisions: Revision) -> None:
        """Let a name mean this at a start: nothing is loaded yet."""
        for revision in revisions:
            self.add(alias.name, revision)
        self._aliases[alias.name] = alias
        self._notifier.ring()

    def flip(self, alias: Alias, *revisions: Revision) -> None:
        """Let the name mean this from now on, in one assignment, and settle the states that follow from it.

        ``revisions`` are those behind its keys; what is not live is added, to be loaded on demand. What the
        name meant before is DRAINING afterwards; requests that run on it are not touched.
        """
        for revision in revisions:
            self.add(alias.name, revision)
        before, now = self._aliases.get(alias.name), (alias.active, alias.candidate)
        self._aliases[alias.name] = alias  # every later lookup sees the new meaning
        for key in now:
            if key is not None and self._deployments[key].state is _S.ADMITTED:
                self.set(self._deployments[key].to(_S.EVICTED))
            elif key is not None:
                self.settle(key)
        if before is not None:
            self._release(*(key for key in (before.active, before.candidate) if key not in now))
        self._notifier.ring()

    def remove(self, name: str) -> None:
        """Forget the name. What answered for it is DRAINING afterwards; requests that run are not touched."""
        if (alias := self._aliases.pop(name, None)) is not None:
            self._release(alias.active, alias.candidate)
        self._notifier.ring()

    def planner(self, name: str, leases: Mapping[str, int]) -> Planner:
        """The planner as it is now. Raises UnknownPlanner."""
        alias = self.alias(name)
        told = {alias.active, alias.candidate}
        others = tuple(d for d in self.of(name) if d.key not in told)
        return Planner(
            alias=alias,
            active=self._deployments[alias.active],
            candidate=self._deployments[alias.candidate] if alias.candidate else None,
            others=others,
            leases={d.key: leases.get(d.key, 0) for d in self.of(name)},
        )

    # Deployments

    def deployments(self) -> tuple[Deployment, ...]:
        """All live ones, oldest first."""
        return tuple(self._deployments.values())

    def of(self, name: str) -> tuple[Deployment, ...]:
        """Those of one planner, oldest first."""
        return tuple(d for d in self._deployments.values() if d.planner == name)

    def find(self, key: str) -> Deployment | None:
        """The live deployment of this key."""
        return self._deployments.get(key)

    def __getitem__(self, key: str) -> Deployment:
        return self._deployments[key]

    def add(self, name: str, revision: Revision) -> Deployment:
        """A deployment of this revision: the live one, or a new one in ADMITTED.

        Raises Conflict when another revision with the same first 12 digits is live (vLLM compares adapters
        by name only, and the name holds no more of them).
        """
        key = slot_name(name, revision.digest)
        live = self._deployments.get(key)
        if live is None:
            return self.set(Deployment(name, revision))
        if live.revision.digest != revision.digest:
            raise Conflict(
                f"revision {revision.digest} would share the name {key} with {live.revision.digest}"
            )
        return live

    def set(self, deployment: Deployment) -> Deployment:
        """Keep the new value; a final one is forgotten unless a name still means it."""
        self._deployments[deployment.key] = deployment
        if deployment.state is _S.FAILED:
            log.error("%s failed: %s", deployment.key, deployment.reason)
        if self._watch is not None:
            self._watch(deployment)
        self._notifier.ring()
        return deployment

    def renew(self, key: str, check: str, proof: Proof) -> None:
        """Let a live deployment have what a check found of it since, in place of its finding at the load."""
        if (live := self._deployments.get(key)) is not None:
            self.set(live.passed(check, proof))

    def forget(self, key: str) -> None:
        """Drop a final deployment that no name means. One of a withheld planner begins anew instead."""
        gone = self._deployments.pop(key, None)
        alias = self._aliases.get(gone.planner) if gone is not None else None
        if gone is not None and alias is not None and key in (alias.active, alias.candidate):
            self._deployments[key] = Deployment(gone.planner, gone.revision)

    # Roles

    def role(self, key: str) -> DeploymentState | None:
        """The state that this deployment has once it is loaded; None if no name means it."""
        deployment = self._deployments.get(key)
        alias = self._aliases.get(deployment.planner) if deployment else None
        if alias is None or alias.withheld:
            return None
        if alias.active == key:
            return _S.SERVING
        if alias.candidate == key and alias.rollout is not None:
            return _S.SHADOW if alias.rollout.shadow else _S.CANARY
        return None

    def settle(self, key: str) -> Deployment:
        """Give a loaded deployment the state of its role; without a role it is left as it is.

        One that is on its way into the engine settles when it has arrived.
        """
        deployment, role = self._deployments[key], self.role(key)
        if role is None or deployment.state is role or deployment.state not in LOADED:
            return deployment
        return self.set(deployment.to(role))

    def _release(self, *keys: str | None) -> None:
        for key in keys:
            old = self._deployments.get(key) if key else None
            if old is not None and old.state in (_S.SERVING, _S.CANARY, _S.SHADOW):
                self.set(old.to(_S.DRAINING))
