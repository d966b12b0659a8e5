"""Which share of the requests a candidate gets: chosen by hash, so that every restart chooses the same."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3lora_serve.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_SHARE = 0.1  # of the sessions that a new candidate gets
_BITS = 53  # of a hash; every number below 2**53 is a float without rounding, so the result stays below 1


@dataclass(frozen=True)
class Rollout:
    """How a planner's candidate is tried. Raises ValueError for values that mean nothing.

    ``since`` is in Unix seconds. ``promote_after``: once the candidate has had this many requests without
    breaking a rule, it takes over by itself; None: it waits for an order.
    """

    share: float  # of the requests, 0 to 1; 0 takes no new session and leaves those that are in
    since: float
    shadow: bool = False  # the share is run again on the candidate, and its answers are not sent
    promote_after: int | None = None

    def __post_init__(self) -> None:
        if not _number(self.share) or not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share!r}; it must be a number from 0 to 1")
        if not _number(self.since):
            raise ValueError(f"since is {self.since!r}; it must be a time in Unix seconds")
        if not isinstance(self.shadow, bool):
            raise ValueError(f"shadow is {self.shadow!r}; it must be true or false")
        after = self.promote_after
        if after is not None and (not isinstance(after, int) or isinstance(after, bool) or after < 1):
            raise ValueError(f"promote_after is {after!r}; it must be a whole number from 1 up, or null")
        if after is not None and self.shadow:
            raise ValueError(
                "promote_after is for canaries; a shadow answers no requests and is not promoted"
            )

    def chooses(self, key: str, candidate_digest: str) -> bool:
        """Whether this session (or request, where there is no session) is in the candidate's share.

        The same in every process and after every restart. A larger share keeps all sessions of a smaller
        one; another candidate draws anew, so that new revisions are not always tried on the same sessions.
        """
        return position(key, candidate_digest) < self.share

    def due(self, requests: int) -> bool:
        """Whether the candidate has had as many requests as it takes to be promoted without an order."""
        return self.promote_after is not None and requests >= self.promote_after

    def to_json(self) -> dict[str, Any]:
        """This rollout as JSON types; ``from_json`` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rollout:
        """Read what ``to_json`` wrote. Raises StateError for anything else."""
        names = {field.name for field in dataclasses.fields(cls)}
        try:
            if unknown := sorted(set(value) - names):
                raise ValueError(f"unknown keys {unknown}")
            return cls(**value)
        except (TypeError, ValueError) as error:
            raise StateError(
                f"a stored rollout cannot be read: {error}",
                hint="restore the database from a copy, or let the version that wrote it give the rollout up",
            ) from error


@dataclass(frozen=True)
class RolloutOrder:
    """What an order says of a trial. None: as the trial under way has it, or the default of a new one."""

    share: float | None = None
    shadow: bool | None = None
    promote_after: int | None = None

    def applied(self, now: Rollout | None, since: float) -> Rollout:
        """The rollout from ``since`` on, in Unix seconds; ``now`` is the one under way.

        Raises ValueError for what means nothing, as a shadow that is to be promoted.
        """
        share = self.share if self.share is not None else now.share if now else DEFAULT_SHARE
        shadow = self.shadow if self.shadow is not None else bool(now and now.shadow)
        after = self.promote_after
        if after is None and now is not None and not shadow:
            after = now.promote_after
        return Rollout(share=share, since=since, shadow=shadow, promote_after=after)

    def to_json(self) -> dict[str, Any]:
        """What was said, as JSON types."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


def position(key: str, candidate_digest: str) -> float:
    """Where a session stands in the order in which shares widen: from 0 to below 1, evenly spread."""
    # surrogatepass: a key comes from a header or a JSON string, and "\ud800" is a legal one.
    text = f"{candidate_digest}\0{key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return math.ldexp(number >> (64 - _BITS), -_BITS)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
