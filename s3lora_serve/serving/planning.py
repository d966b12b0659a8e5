"""One plan: request → prompt and grammar → engine → plan, whole or step by step."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from planners import (
    GuardVerdict,
    Plan,
    PlanMeta,
    PlannerInput,
    PlanStep,
    PlanSyntaxError,
    Problem,
    Timings,
    Usage,
)
from planners.grammar import MAX_TEXT
from planners.repair import repair
from planners.text.stream import PlanReader
from planners.tools import MAX_FEEDBACK, MAX_FEEDBACK_CHARS
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import InvalidPlan, PlanIncomplete, PlanTimeout
from s3lora_serve.serving.answer_meta import cost_of, exam_of, fingerprint, summary_of
from s3lora_serve.serving.judged_answer import GUARDS_ERRORS, once_judged
from s3lora_serve.serving.leased_stream import leased_stream
from s3lora_serve.serving.plan_prompt import EnginePrompt
from s3lora_serve.serving.plan_verdict import broken, is_cut, judged, outcome_of_cut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Sequence

    from s3lora_serve.engine.port import Delta, Engine, RequestFacts, Slot
    from s3lora_serve.fleet.leases import Lease
    from s3lora_serve.safety.guard.guarding import Guarding

T = TypeVar("T")

# How often a planner is asked again with the faults of its plan; small models rarely correct a third one.
ASKS = 2
_SAID = 5  # problems that a planner is told; more would only lengthen the prompt
_CUT = "the last step was cut off, and left out"
_CUT_SHORT = "cut off at the token limit, between two steps"


@dataclass(frozen=True)
class PlanOptions:
    """How to plan. ``max_text``: characters of a thought or an input; ``seconds``: for the engine, in all."""

    temperature: float = 0.0
    seed: int | None = None
    constraint: Literal["grammar", "none"] = "grammar"
    repair: bool = False
    max_text: int = MAX_TEXT
    seconds: float | None = None


@dataclass
class Planning:
    """One plan in the making, under the lease that it was given. What it was worth is noted on the lease."""

    engine: Engine
    lease: Lease
    request: PlannerInput
    options: PlanOptions
    base_model: str
    arrived: float = field(default_factory=time.monotonic)  # the request, by this clock
    guarding: Guarding | None = None  # the request's; None: nothing judges it

    def __post_init__(self) -> None:
        self._facts: list[RequestFacts] = []
        self._notes: list[str] = []
        self._repairs = 0
        if self.guarding is not None:
            self.guarding.revision = self.lease.deployment.revision.digest

    async def whole(self) -> Plan:
        """The plan, once it is whole.

        Raises PlanIncomplete when the answer was cut off, InvalidPlan when it is none and no grammar was set,
        EngineError when it does not keep to the grammar, PlanTimeout, LeaseCut, RefusedByGuard,
        GuardUndecided.
        """
        if self.guarding is None:
            plan = await self._in_time(self._whole())
        else:
            async with self.guarding:
                plan = await self._in_time(self._judged(self._whole()))
        return plan.model_copy(update={"meta": self._meta()})

    async def steps(self) -> AsyncGenerator[PlanStep | PlanMeta, None]:
        """Each step as soon as it is whole, then the meta. Raises what ``whole`` does.

        A step that was handed out can no longer be repaired: without a grammar they come at the end. Under a
        guard the first one waits for the verdict.
        """
        if self.options.constraint == "none":
            plan = await self.whole()
            self.lease.left = True
            for step in plan.steps:
                yield step
        else:
            async with AsyncExitStack() as owned:
                steps = await owned.enter_async_context(aclosing(self._streamed()))
                if self.guarding is not None:
                    await owned.enter_async_context(self.guarding)
                    if (first := await self._in_time(self._judged(_first(steps)))) is not None:
                        yield first
                async for step in steps:
                    yield step
        yield self._meta()

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, unless time or lease end first. Raises PlanTimeout, LeaseCut."""
        try:
            async with asyncio.timeout(self.options.seconds):
                return await self.lease.run(work)
        except TimeoutError:
            raise self._too_late() from None

    async def _judged(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work`` once it may leave; else nothing is told of it."""
        assert self.guarding is not None, "asked only where there is one"
        try:
            return await once_judged(self._answering(work, self.guarding), self.guarding)
        except GUARDS_ERRORS:
            self.lease.withhold()
            raise
        except asyncio.CancelledError:
            # There was no verdict: what it was worth is told to nobody, and says nothing of the revision.
            self.lease.tokens, self.lease.outcome = None, "aborted"
            raise

    async def _answering(self, work: Coroutine[Any, Any, T], guarding: Guarding) -> T:
        with guarding.answering():
            return await work

    async def _whole(self) -> Plan:
        request = self.request
        for asks_left in range(ASKS, -1, -1):
            answer = await self.engine.chat(*self._asked(request))
            self._ended(answer.facts)
            cut = is_cut(answer.facts.finish_reason)
            plan, found = judged(answer.text, self.request)
            if plan is not None and not cut:
                return self._done(plan)
            if self.options.constraint == "grammar" and not cut:
                raise broken(str(found[0]))
            if self.options.repair:
                mended = repair(answer.text, self.request)
                if mended.plan.steps and not mended.problems:
                    self._repairs += mended.repairs or 1  # that it was cut, if nothing else
                    self._notes += mended.notes or (_CUT_SHORT,)
                    return self._done(mended.plan)
                found = mended.problems
            if self.options.constraint == "grammar" or not (self.options.repair and asks_left):
                raise self._incomplete() if cut else self._invalid(found)
            why = str(found[0]) if found else "it was cut off"
            self._repairs += 1
            self._notes.append(f"asked again, since {why}")
            request = self.request.model_copy(update={"feedback": _feedback(self.request, found)})
        raise AssertionError("the last attempt returns or raises")

    async def _streamed(self) -> AsyncGenerator[PlanStep, None]:
        reader, steps = PlanReader(), 0
        source = self.engine.stream(*self._asked(self.request))
        try:
            async with aclosing(leased_stream(source, self.lease, self.options.seconds)) as deltas:
                async for step in self._checked(reader, deltas):
                    steps += 1
                    yield step
        except TimeoutError:
            raise self._too_late() from None
        if is_cut(self._facts[-1].finish_reason):
            if not (self.options.repair and steps):
                raise self._incomplete()
            self._repairs, self._notes = 1, [_CUT]  # what came after the last whole step
        self.lease.outcome = "ok"

    async def _checked(
        self, reader: PlanReader, deltas: AsyncGenerator[Delta, None]
    ) -> AsyncGenerator[PlanStep, None]:
        """The steps in the text, none of which has a fault."""
        steps: tuple[PlanStep, ...] = ()
        async for delta in deltas:
            try:
                new = reader.feed(delta.text)
                if delta.facts is not None:
                    self._ended(delta.facts)
                    if not is_cut(delta.facts.finish_reason):
                        new += reader.finish()
            except PlanSyntaxError as error:
                raise broken(str(error)) from error
            if not new:
                continue
            steps += new
            if problems := Plan(steps=steps).problems(self.request.tools, self.request.evidence):
                raise broken(str(problems[0]))
            for step in new:
                yield step

    def _asked(self, request: PlannerInput) -> tuple[Sequence[dict[str, str]], Slot | None, Sampling]:
        """What the engine is asked: messages, slot and how to sample."""
        options = self.options
        prompt = EnginePrompt.of(
            request,
            self.engine,
            max_text=options.max_text,
            constrained=options.constraint == "grammar",
        )
        sampling = Sampling(
            max_tokens=prompt.max_tokens,
            temperature=options.temperature,
            seed=options.seed,
            grammar=prompt.grammar,
        )
        return prompt.messages, self.lease.slot, sampling

    def _ended(self, facts: RequestFacts) -> None:
        self._facts.append(facts)
        self.lease.tokens = (self.lease.tokens or 0) + facts.output_tokens
        self.lease.prompt_tokens = (self.lease.prompt_tokens or 0) + facts.prompt_tokens
        self.lease.outcome = "invalid"  # until it is known to be a plan

    def _done(self, plan: Plan) -> Plan:
        self.lease.outcome = "ok"
        return plan

    def _meta(self) -> PlanMeta:
        deployment = self.lease.deployment
        revision = deployment.revision
        guarding = self.guarding
        cost = cost_of(self._facts, revision, guarding.tokens if guarding is not None else None)
        return PlanMeta(
            planner=deployment.planner,
            revision=revision.digest,
            base_model=self.base_model,
            engine=self.engine.kind,
            role=self.lease.role,
            system_fingerprint=fingerprint(self.engine.kind, self.base_model, revision.digest),
            ssi=summary_of(revision),
            pruned_modules=revision.lineage.pruned,
            usage=Usage(
                prompt_tokens=cost.prompt_tokens,
                output_tokens=cost.output_tokens,
                cached_tokens=cost.cached_prompt_tokens,
            ),
            cost=cost,
            timings=Timings(
                wait_seconds=max(self.lease.started - self.arrived, 0.0),
                total_seconds=time.monotonic() - self.arrived,
            ),
            constraint=self.options.constraint,
            repairs=self._repairs,
            repair_notes=tuple(self._notes),
            finish_reason=self._facts[-1].finish_reason,
            guard=GuardVerdict(**guarding.about()) if guarding is not None else None,
            exam=exam_of(deployment),
        )

    def _incomplete(self) -> PlanIncomplete:
        facts, planner = self._facts[-1], self.lease.deployment.planner
        self.lease.outcome = outcome_of_cut(facts.prompt_tokens, self.engine.max_model_len)
        return PlanIncomplete(
            f"planner {planner!r} was cut off after {facts.output_tokens} tokens"
            f" (finish_reason {facts.finish_reason!r})",
            hint=f"ask for fewer than {self.request.max_steps} steps, or shorten the task: the model's"
            f" limit is {self.engine.max_model_len} tokens for prompt and plan",
        )

    def _invalid(self, problems: tuple[Problem, ...]) -> InvalidPlan:
        asked = f" in {len(self._facts)} attempts" if len(self._facts) > 1 else ""
        return InvalidPlan(
            f"planner {self.lease.deployment.planner!r} wrote no valid plan{asked}: {problems[0]}",
            problems=problems,
            hint="constraint: grammar makes an invalid plan impossible"
            + ("" if self.options.repair else "; repair: true repairs what can be repaired"),
        )

    def _too_late(self) -> PlanTimeout:
        # It may be the revision that rambles or the engine that is busy: no rule may blame the revision.
        self.lease.outcome = "aborted"
        return too_late(self.lease.deployment.planner, self.options.seconds or 0.0)


async def _first(steps: AsyncGenerator[PlanStep, None]) -> PlanStep | None:
    """The first of them, None of none."""
    return await anext(steps, None)


def too_late(model: str, seconds: float) -> PlanTimeout:
    """What a client is told whose plan was not whole in time."""
    return PlanTimeout(
        f"{model!r} had no plan within {seconds:g} s",
        hint="try again when less is going on, ask for fewer steps, or raise plans.seconds",
    )


def _feedback(request: PlannerInput, found: tuple[Problem, ...]) -> tuple[str, ...]:
    """The request's own feedback and what was wrong this time, within the contract's bounds."""
    said = tuple(str(problem)[:MAX_FEEDBACK_CHARS] for problem in found[:_SAID])
    return (*request.feedback[: MAX_FEEDBACK - len(said)], *said)
