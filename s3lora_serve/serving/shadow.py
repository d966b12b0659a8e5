"""A share of the requests run again on a candidate: does it answer the same, and at what cost."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from planners import Plan

_log = logging.getLogger(__name__)
_ERROR_LENGTH = 300  # characters of an error that are kept


@dataclass(frozen=True)
class Rerun:
    """One side of a comparison: an answer and what it cost."""

    text: str
    tokens: int = 0  # of output
    seconds: float = 0.0
    tools: tuple[str, ...] | None = None  # that a plan names, in order; None: it is no plan

    @classmethod
    def of_plan(cls, plan: Plan) -> Rerun:
        """A plan's text, tools and cost."""
        usage = plan.meta.usage if plan.meta else None
        timings = plan.meta.timings if plan.meta else None
        return cls(
            text=plan.to_rewoo(),
            tokens=usage.output_tokens if usage else 0,
            seconds=(timings.total_seconds if timings else None) or 0.0,
            tools=tuple(step.tool for step in plan.steps),
        )


@dataclass(frozen=True)
class ShadowStats:
    """What became of the requests that were offered. Costs are of the compared ones, so both sides match.

    Two runs of one revision need not agree wholly: an engine's arithmetic depends on what shares its batch.
    """

    offered: int = 0
    runs: int = 0  # ended and compared
    dropped: int = 0  # in the share, but the candidate was busy
    failed: int = 0  # raised or took too long
    cancelled: int = 0  # the shadow was closed first
    same_text: int = 0
    plans: int = 0  # of runs: the original was a plan
    same_tools: int = 0  # of plans: the candidate's names the same tools in the same order
    tokens: int = 0  # of the originals
    candidate_tokens: int = 0
    seconds: float = 0.0  # of the originals
    candidate_seconds: float = 0.0
    last_error: str = ""

    @property
    def text_agreement(self) -> float | None:
        """Share of runs with the same text; None before the first."""
        return self.same_text / self.runs if self.runs else None

    @property
    def tool_agreement(self) -> float | None:
        """Share of plans with the same tools in the same order; None before the first."""
        return self.same_tools / self.plans if self.plans else None

    def to_json(self) -> dict[str, Any]:
        """Every figure as JSON types, the two agreements too."""
        return {
            **dataclasses.asdict(self),
            "text_agreement": self.text_agreement,
            "tool_agreement": self.tool_agreement,
        }


class ShadowRunner:
    """Runs a share of requests again. Its failures never reach the client: no wait, no exception, no queue.

    Close it before the candidate's slot goes: runs hold leases on it. Use in one event loop only.
    """

    def __init__(
        self,
        share: float,
        *,
        concurrency: int = 1,
        timeout_seconds: float = 60.0,
        rng: random.Random | None = None,
    ) -> None:
        """``share``: of the offered requests, 0 to 1. ``concurrency``: runs at a time; more are dropped."""
        if concurrency < 1 or not timeout_seconds > 0:
            raise ValueError(
                f"concurrency {concurrency} must be 1 or more, timeout_seconds {timeout_seconds} more than 0"
            )
        self.share = share
        self._concurrency = concurrency
        self._timeout = timeout_seconds
        self._rng = rng or random.Random()
        self._credit = 0.0
        self._threshold = self._rng.random()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._stats = ShadowStats()

    @property
    def share(self) -> float:
        """Of the offered requests, 0 to 1; may be set at any time. Raises ValueError outside."""
        return self._share

    @share.setter
    def share(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"share {value} must be from 0 to 1")
        self._share = value

    @property
    def stats(self) -> ShadowStats:
        """What has come out so far."""
        return self._stats

    def run(self, original: Rerun, rerun: Callable[[], Awaitable[Rerun]]) -> bool:
        """Start running a request again, if it is in the share and the candidate is free; say whether.

        Offer every request that was answered, once its answer is out: the share is taken here. Returns at
        once; ``rerun`` is called later, in a task.
        """
        if self._closed:
            return False
        self._add(offered=1)
        if not self._in_share():
            return False
        if len(self._tasks) >= self._concurrency:
            self._add(dropped=1)
            return False
        task = asyncio.get_running_loop().create_task(self._compare(original, rerun), name="shadow")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    async def settle(self) -> None:
        """Wait until no run is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self, grace_seconds: float = 5.0) -> None:
        """Cancel what runs and take nothing more. Waits ``grace_seconds`` at most for runs to stop."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=grace_seconds)
            if stuck:
                _log.warning("%d shadow runs did not stop within %g s", len(stuck), grace_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _in_share(self) -> bool:
        # One request in each stretch of 1/share, at a random place in it: the count is off by less than one,
        # and a client with a rhythm (always ten calls an episode) is not always met at the same one.
        self._credit += self._share
        if self._credit <= self._threshold:
            return False
        self._credit -= 1
        self._threshold = self._rng.random()
        return True

    async def _compare(self, original: Rerun, rerun: Callable[[], Awaitable[Rerun]]) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                answer = await rerun()
            self._add(
                runs=1,
                same_text=answer.text == original.text,
                plans=original.tools is not None,
                same_tools=original.tools is not None and answer.tools == original.tools,
                tokens=original.tokens,
                candidate_tokens=answer.tokens,
                seconds=original.seconds,
                candidate_seconds=answer.seconds,
            )
        except TimeoutError as error:
            self._fail(str(error) or f"no answer within {self._timeout:g} s")
        except Exception as error:  # whatever it is, it is the candidate's trouble alone
            self._fail(f"{type(error).__name__}: {error}")

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            return
        if self._closed:
            self._add(cancelled=1)
        else:
            self._fail("cancelled by the candidate's side")

    def _fail(self, why: str) -> None:
        _log.info("a shadow run failed: %s", why)
        self._add(failed=1)
        self._stats = dataclasses.replace(self._stats, last_error=why[:_ERROR_LENGTH])

    def _add(self, **figures: float) -> None:
        now = self._stats
        self._stats = dataclasses.replace(
            now, **{name: getattr(now, name) + by for name, by in figures.items()}
        )
