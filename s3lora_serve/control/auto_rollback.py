"""Watches new revisions against old ones, and orders the rollback or the promotion that the rules ask for."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.operation import Order
from s3lora_serve.control.rollback_rules import Rules, verdict
from s3lora_serve.control.window import Window
from s3lora_serve.errors import S3LoRAError
from s3lora_serve.fleet.background import Background

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from s3lora_serve.control.orders.orders import Orders
    from s3lora_serve.fleet.fleet import Fleet
    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.fleet.planner import Alias

log = logging.getLogger(__name__)


class AutoRollback:
    """Fed with every lease that ends. After a flip the new revision's first requests are compared with the
    old one's last; a candidate's with those that the active one answers meanwhile.
    """

    def __init__(self, fleet: Fleet, rules: Rules) -> None:
        self._fleet = fleet
        self._rules = rules
        self._control: Orders | None = None
        self._windows: dict[str, Window] = {}
        self._watched: dict[
            str, tuple[str, Window]
        ] = {}  # planner → active key on watch, the old one's window
        self._acting: set[str] = set()
        self._orders = Background()

    def connect(self, control: Orders) -> None:
        """Where orders go."""
        self._control = control

    def window(self, key: str) -> Window:
        """What became of this deployment's last requests."""
        return self._windows.setdefault(key, Window(self._rules.requests))

    def watch(self, planner: str, new: str, old: str | None) -> None:
        """The planner is given the deployment ``new``; judge its first requests against those of ``old``.

        Without ``old`` an operator went back, and what serves now is not judged.
        """
        if old is None:
            self._watched.pop(planner, None)
            return
        self._watched[planner] = (new, copy.deepcopy(self.window(old)))
        self.begin(new)

    def begin(self, key: str) -> None:
        """The deployment begins to answer: requests before that do not count."""
        self._windows = {k: w for k, w in self._windows.items() if self._fleet.find(k) is not None}
        self._windows[key] = Window(self._rules.requests)

    def ended(self, lease: Lease) -> None:
        """Count a lease that was given back, and act if that decides something."""
        if self._fleet.find(lease.key) is None:
            return  # it was the last of a deployment that is gone
        self.window(lease.key).add(lease.outcome, lease.seconds)
        planner = lease.deployment.planner
        if planner not in self._fleet.names() or planner in self._acting:
            return
        alias = self._fleet.alias(planner)
        if lease.key == alias.candidate:
            self._judge_candidate(alias, lease.key)
        elif lease.key == alias.active and planner in self._watched:
            self._judge_active(alias)

    def _judge_candidate(self, alias: Alias, key: str) -> None:
        window = self.window(key)
        found = verdict(window, self.window(alias.active), self._rules)
        if found.decision == "bad":
            self._roll_back(alias, found.rule, found.reason)
        elif alias.rollout is not None and alias.rollout.due(window.seen) and self._control is not None:
            order = self._order("promote_after", f"{window.seen} requests and no rule broken", alias)
            self._act(alias.name, self._control.promote(alias.name, order))

    def _judge_active(self, alias: Alias) -> None:
        watched = key, before = self._watched[alias.name]
        if key != alias.active:
            self._watched.pop(alias.name)  # a later decision took it out of service
            return
        found = verdict(self.window(key), before, self._rules)
        if found.decision == "bad":
            if alias.candidate is None:  # else this order gives the candidate up, and another follows
                self._watched.pop(alias.name)
            self._roll_back(alias, found.rule, found.reason, watched)
        elif found.decision == "good":
            self._watched.pop(alias.name)
            log.info("planner %s: %s holds, %s", alias.name, key, found.reason)

    def _roll_back(
        self, alias: Alias, rule: str, reason: str, watched: tuple[str, Window] | None = None
    ) -> None:
        log.warning("planner %s is rolled back by rule %s: %s", alias.name, rule, reason)
        if self._control is not None:
            order = self._order(rule, reason, alias)
            self._act(alias.name, self._control.rollback(alias.name, order), watched)

    def _order(self, rule: str, reason: str, alias: Alias) -> Order:
        serving = self._fleet[alias.active].revision.digest
        return Order(actor=f"rule:{rule}", reason=reason, expected=serving)

    def _act(
        self, planner: str, order: Coroutine[Any, Any, object], watched: tuple[str, Window] | None = None
    ) -> None:
        async def acted() -> None:
            try:
                await order
            except S3LoRAError as error:  # an operator may be deciding something else just now
                log.warning("planner %s: the rules' order was refused: %s", planner, error)
                if watched is not None:
                    self._watched.setdefault(planner, watched)  # looked at again with the next request
            finally:
                self._acting.discard(planner)

        self._acting.add(planner)
        self._orders.go(acted())

    async def close(self) -> None:
        """Order nothing more."""
        await self._orders.close()
