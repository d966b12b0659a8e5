"""Watches new revisions against old ones, and orders the rollback or the promotion that the rules ask for."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

from s3lora_serve.control.operation import RULE, Order
from s3lora_serve.control.rollback_rules import verdict
from s3lora_serve.control.window import Window
from s3lora_serve.errors import S3LoRAError
from s3lora_serve.fleet.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from s3lora_serve.config import RollbackConfig
    from s3lora_serve.control.flipped import Flipped
    from s3lora_serve.control.orders.orders import Orders
    from s3lora_serve.control.replica_port import Replica
    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.fleet.planner import Alias

log = logging.getLogger(__name__)


class AutoRollback:
    """Fed with every lease that ends. After a flip the new revision's first requests are compared with the
    old one's last; a candidate's with those that the active one answers meanwhile.
    """

    def __init__(self, replica: Replica, rules: RollbackConfig, orders: Orders) -> None:
        self._replica = replica
        self._rules = rules
        self._orders = orders
        self._windows: dict[str, Window] = {}
        self._watched: dict[
            str, tuple[str, Window]
        ] = {}  # planner → active key on watch, the old one's window
        self._acting: set[str] = set()
        self._given = Background()

    def window(self, key: str) -> Window:
        """What became of this deployment's last requests."""
        return self._windows.setdefault(key, Window(self._rules.requests))

    def flipped(self, event: Flipped) -> None:
        """Judge a new active revision's first requests against the old one's last, and a new candidate's.

        A flip that is not judged is an operator's way back; what serves after it is not judged.
        """
        if event.active != event.active_before:
            self._watched.pop(event.planner, None)
            if event.judged:
                before = copy.deepcopy(self.window(event.active_before))
                self._watched[event.planner] = (event.active, before)
                self._begin(event.active)
        if event.candidate is not None and event.candidate != event.candidate_before:
            self._begin(event.candidate)

    def _begin(self, key: str) -> None:
        """The deployment begins to answer: its earlier requests do not count."""
        self._windows = {k: w for k, w in self._windows.items() if self._replica.find(k) is not None}
        self._windows[key] = Window(self._rules.requests)

    def ended(self, lease: Lease) -> None:
        """Count a lease that was given back, and act if that decides something."""
        if self._replica.find(lease.key) is None:
            return  # it was the last of a deployment that is gone
        self.window(lease.key).add(lease.outcome, lease.seconds)
        planner = lease.deployment.planner
        if planner not in self._replica.names() or planner in self._acting:
            return
        alias = self._replica.alias(planner)
        if lease.key == alias.candidate:
            self._judge_candidate(alias, lease.key)
        elif lease.key == alias.active and planner in self._watched:
            self._judge_active(alias)

    def _judge_candidate(self, alias: Alias, key: str) -> None:
        window = self.window(key)
        found = verdict(window, self.window(alias.active), self._rules)
        if found.decision == "bad":
            self._roll_back(alias, found.rule, found.reason)
        elif alias.rollout is not None and alias.rollout.due(window.seen):
            order = self._order("promote_after", f"{window.seen} requests and no rule broken", alias)
            self._act(alias.name, lambda: self._orders.promote(alias.name, order))

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
        order = self._order(rule, reason, alias)
        self._act(alias.name, lambda: self._orders.rollback(alias.name, order), watched)

    def _order(self, rule: str, reason: str, alias: Alias) -> Order:
        serving = self._replica.revision(alias.active).digest
        return Order(actor=f"{RULE}{rule}", reason=reason, expected=serving)

    def _act(
        self,
        planner: str,
        order: Callable[[], Coroutine[Any, Any, object]],
        watched: tuple[str, Window] | None = None,
    ) -> None:
        async def acted() -> None:
            try:
                await order()
            except S3LoRAError as error:  # an operator may be deciding something else just now
                log.warning("planner %s: the rules' order was refused: %s", planner, error)
                if watched is not None:
                    self._watched.setdefault(planner, watched)  # looked at again with the next request
            finally:
                self._acting.discard(planner)

        self._acting.add(planner)
        self._given.go(acted())

    async def close(self) -> None:
        """Order nothing more."""
        await self._given.close()
