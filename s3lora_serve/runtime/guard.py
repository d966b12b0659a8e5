"""Watches new revisions against old ones, and orders the rollback or the promotion that the rules ask for."""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import TYPE_CHECKING

from s3lora_serve.errors import S3LoRAError
from s3lora_serve.runtime.operation import Order
from s3lora_serve.runtime.rules import Rules, verdict
from s3lora_serve.runtime.window import Window

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from s3lora_serve.runtime.control import Control
    from s3lora_serve.runtime.fleet import Fleet
    from s3lora_serve.runtime.leases import Lease
    from s3lora_serve.runtime.planner import Alias

log = logging.getLogger(__name__)


class Guard:
    """Fed with every lease that ends. After a flip the new revision's first requests are compared with the
    old one's last; a candidate's with those that the active one answers meanwhile.
    """

    def __init__(self, fleet: Fleet, rules: Rules) -> None:
        self._fleet = fleet
        self._rules = rules
        self._control: Control | None = None
        self._windows: dict[str, Window] = {}
        self._watched: dict[
            str, tuple[str, Window]
        ] = {}  # planner → active key on watch, the old one's window
        self._acting: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self, control: Control) -> None:
        """Where orders go."""
        self._control = control

    def window(self, key: str) -> Window:
        """What became of this deployment's last requests."""
        return self._windows.setdefault(key, Window(self._rules.requests))

    def watch(self, planner: str, new: str, old: str) -> None:
        """The planner was given the deployment ``new`` after ``old``; judge its first requests."""
        self._watched[planner] = (new, copy.deepcopy(self.window(old)))
        self._windows[new] = Window(self._rules.requests)

    def unwatch(self, planner: str) -> None:
        """An operator went back: what serves now is not judged."""
        self._watched.pop(planner, None)

    def forget(self, key: str) -> None:
        """The deployment is gone."""
        self._windows.pop(key, None)

    def ended(self, lease: Lease) -> None:
        """Count a lease that was given back, and act if that decides something."""
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
        key, before = self._watched[alias.name]
        if key != alias.active:
            self._watched.pop(alias.name)  # a later decision took it out of service
            return
        found = verdict(self.window(key), before, self._rules)
        if found.decision == "bad":
            self._watched.pop(alias.name)
            self._roll_back(alias, found.rule, found.reason)
        elif found.decision == "good":
            self._watched.pop(alias.name)
            log.info("planner %s: %s holds, %s", alias.name, key, found.reason)

    def _roll_back(self, alias: Alias, rule: str, reason: str) -> None:
        log.warning("planner %s is rolled back by rule %s: %s", alias.name, rule, reason)
        if self._control is not None:
            self._act(alias.name, self._control.rollback(alias.name, self._order(rule, reason, alias)))

    def _order(self, rule: str, reason: str, alias: Alias) -> Order:
        serving = self._fleet[alias.active].revision.digest
        return Order(actor=f"rule:{rule}", reason=reason, expected=serving)

    def _act(self, planner: str, order: Coroutine[None, None, object]) -> None:
        async def acted() -> None:
            try:
                await order
            except S3LoRAError as error:  # an operator may have decided something else just now
                log.warning("planner %s: the rules' order was refused: %s", planner, error)
            finally:
                self._acting.discard(planner)

        self._acting.add(planner)
        task = asyncio.create_task(acted())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
