"""The access log: one line, and one count, for each request, refused ones too"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.types import Scope

    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.service.metrics.prometheus import Metrics

log = logging.getLogger("s3lora_serve.access")

# Asked every few seconds: their lines would be most of the log.
PROBES = frozenset({"/health", "/livez", "/readyz", "/metrics"})


def accounts(metrics: Metrics, routes: Iterable[str]) -> Callable[[Scope, int], None]:
    """What ``RequestScope`` calls with each request that has ended, and its status.

    A line names nothing that a client could make up but its request's id: no path, no query, no header.
    """
    known = frozenset(routes)

    def account(scope: Scope, status: int) -> None:
        state, route = scope["state"], getattr(scope.get("route"), "path", scope["path"])
        route, planner = route if route in known else "other", state.get("planner", "")
        metrics.http(route, planner, status)
        lease: Lease | None = state.get("lease")
        prompt, output = (lease.prompt_tokens, lease.tokens) if lease else state.get("tokens", (None, None))
        _line(
            logging.DEBUG if route in PROBES else logging.INFO,
            method=scope["method"],
            route=route,
            status=status,
            ms=round((time.monotonic() - state["began"]) * 1000, 1),
            planner=planner or None,
            revision=lease.deployment.revision.short if lease else None,
            role=lease.role if lease else None,
            prompt_tokens=prompt,
            output_tokens=output,
            outcome=outcome_of(status, state),
            caller=state.get("caller"),
            peer=peer_of(scope),
        )

    return account


def unread(metrics: Metrics, status: int, peer: str | None) -> None:
    """Count, and log, what was refused before it was a request."""
    metrics.http("other", "", status)
    _line(logging.INFO, route="other", status=status, outcome="refused", peer=peer)


def outcome_of(status: int, state: dict[str, Any]) -> str:
    """How a request ended: ok, refused, invalid, error, cut (by the server), aborted (by its client), or
    withheld (by the guard).
    """
    lease: Lease | None = state.get("lease")
    if lease and lease.withheld:
        return "withheld"
    told = lease.outcome if lease else state.get("outcome", "ok")
    if state.get("cut") or (lease and lease.cut.is_set() and told != "ok"):
        return "cut"
    if told in ("invalid", "error"):
        return str(told)
    if status == 499 or (status < 400 and not state["complete"]):
        return "aborted"
    if status >= 400:
        return "refused" if status < 500 else "error"
    return str(told)


def peer_of(scope: Scope) -> str | None:
    """The address that the request came from; behind a proxy the proxy's."""
    client = scope.get("client")
    return client[0] if client else None


def _line(level: int, **known: Any) -> None:
    names = "method route status ms planner revision role prompt_tokens output_tokens outcome caller peer"
    log.log(level, "answered", extra={"fields": {name: known.get(name) for name in names.split()}})
