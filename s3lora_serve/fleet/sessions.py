"""Which deployment a session began on, so that no episode changes its planner halfway."""

from __future__ import annotations

import hashlib
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_SWEEP = 4  # idle sessions forgotten per call at most: each call adds at most one, so none delays its request


class _Seen(NamedTuple):
    deployment: str
    at: float


class SessionMemory:
    """Remembers up to ``limit`` sessions, each until it was idle for ``idle_seconds``.

    Ask it for every request that has a session, also while no candidate is tried: a session that is known to
    have begun on the active deployment stays there when a canary starts. One that is not known any more (it
    was idle or crowded out, or the server restarted) goes where its hash says. That is another deployment
    only if it began before the canary, or before its share was changed. Sessions are kept as hashes: their
    length costs nothing, and what clients put into them is not held.
    """

    def __init__(self, limit: int, idle_seconds: float, clock: Callable[[], float]) -> None:
        """``clock``: monotonic seconds."""
        if limit < 1 or not idle_seconds > 0:
            raise ValueError(f"limit {limit} must be 1 or more, idle_seconds {idle_seconds} more than 0")
        self._limit = limit
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._sessions: OrderedDict[bytes, _Seen] = OrderedDict()  # least recently seen first
        self.crowded_out = 0  # sessions forgotten before they were idle: if it rises, limit is too low

    def __len__(self) -> int:
        return len(self._sessions)

    def assign(
        self, planner: str, session: str, *, active: str, candidate: str | None = None, chosen: bool = False
    ) -> str:
        """The key of the deployment for this request of the session, which is noted.

        That is the one that the session began on while it is still ``active`` or ``candidate``. Otherwise the
        session begins anew: on the candidate if it was ``chosen`` (``Rollout.chooses``), else on the active
        one. For a shadow give no candidate, since it sends no answers. Does not await, so nothing can change
        between the look and the note.
        """
        now = self._clock()
        self._sweep(now)
        key = _hashed(planner, session)
        seen = self._sessions.pop(key, None)
        known = seen is not None and not self._idle(seen, now) and seen.deployment in (active, candidate)
        if seen is not None and known:
            deployment = seen.deployment
        else:
            deployment = candidate if candidate is not None and chosen else active
        # Interned: a hundred thousand sessions share the few names of the deployments there are.
        self._sessions[key] = _Seen(sys.intern(deployment), now)
        if len(self._sessions) > self._limit:
            _, oldest = self._sessions.popitem(last=False)
            self.crowded_out += not self._idle(oldest, now)
        return deployment

    def _idle(self, seen: _Seen, now: float) -> bool:
        return now - seen.at >= self._idle_seconds

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEEP):
            oldest = next(iter(self._sessions), None)
            if oldest is None or not self._idle(self._sessions[oldest], now):
                return
            del self._sessions[oldest]


def _hashed(planner: str, session: str) -> bytes:
    # One client may use one session name with several planners: each pair has its own place. The length
    # keeps ("ab", "c") and ("a", "bc") apart.
    text = f"{len(planner)} {planner}{session}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).digest()
