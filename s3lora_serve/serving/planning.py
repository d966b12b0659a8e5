"""One plan: request → prompt and grammar → engine → plan, whole or step by step."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from planners import (
    Plan,
    PlanMeta,
    PlannerInput,
    PlanStep,
    PlanSyntaxError,
    Problem,
    Timings,
    Usage,
    parse,
    plan_grammar,
    render_messages,
)
from planners.grammar import MAX_TEXT
from planners.repair import repair
from planners.stream import PlanReader
from planners.tools import MAX_FEEDBACK, MAX_TOOL_CHARS
from s3lora_serve.engine.port import Sampling
from s3lora_serve.errors import EngineError, InvalidPlan, PlanIncomplete, PlanTimeout
from s3lora_serve.serving.answer_meta import cost_of, fingerprint, summary_of
from s3lora_serve.serving.leased_stream import leased_stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from s3lora_serve.engine.port import Delta, Engine, RequestFacts
    from s3lora_serve.fleet.leases import Lease, LeaseOutcome

# "Plan: ", "\n#E32 = ", a tool's name, brackets, a line break and the input's references, in characters.
_STEP_FRAME = 24 + 64 + 28
_CHAR_BYTES = 4  # of UTF-8, at most
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

    def __post_init__(self) -> None:
        self._facts: list[RequestFacts] = []
        self._notes: list[str] = []
        self._repairs = 0

    async def whole(self) -> Plan:
        """The plan, once it is whole.

        Raises PlanIncomplete when the answer was cut off, InvalidPlan when it is none and no grammar was set,
        EngineError when it does not keep to the grammar, PlanTimeout, LeaseCut.
        """
        try:
            async with asyncio.timeout(self.options.seconds):
                return await self.lease.run(self._whole())
        except TimeoutError:
            raise self._too_late() from None

    async def steps(self) -> AsyncGenerator[PlanStep | PlanMeta, None]:
        """Each step as soon as it is whole, then the meta. Raises what ``whole`` does.

        A step that was handed out can no longer be repaired: without a grammar they come at the end.
        """
        if self.options.constraint == "none":
            plan = await self.whole()
            for step in plan.steps:
                yield step
        else:
            async with aclosing(self._streamed()) as steps:
                async for step in steps:
                    yield step
        yield self._meta()

    async def _whole(self) -> Plan:
        request = self.request
        for asks_left in range(ASKS, -1, -1):
            answer = await self.engine.chat(render_messages(request), self.lease.slot, self._sampling())
            self._ended(answer.facts)
            cut = answer.facts.finish_reason != "stop"
            plan, found = _judged(answer.text, self.request)
            if plan is not None and not cut:
                return self._done(plan)
            if self.options.constraint == "grammar" and not cut:
                raise _broken(str(found[0]))
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
        source = self.engine.stream(render_messages(self.request), self.lease.slot, self._sampling())
        try:
            async with aclosing(leased_stream(source, self.lease, self.options.seconds)) as deltas:
                async for step in self._checked(reader, deltas):
                    steps += 1
                    yield step
        except TimeoutError:
            raise self._too_late() from None
        if self._facts[-1].finish_reason != "stop":
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
                    if delta.facts.finish_reason == "stop":
                        new += reader.finish()
            except PlanSyntaxError as error:
                raise _broken(str(error)) from error
            if not new:
                continue
            steps += new
            if problems := Plan(steps=steps).problems(self.request.tools, self.request.evidence):
                raise _broken(str(problems[0]))
            for step in new:
                yield step

    def _sampling(self) -> Sampling:
        request, options = self.request, self.options
        grammar = None
        if options.constraint == "grammar":
            grammar = plan_grammar(
                request.tools, request.max_steps, first=request.first_step, max_text=options.max_text
            )
        return Sampling(
            max_tokens=token_budget(request, self.engine.max_model_len, options.max_text),
            temperature=options.temperature,
            seed=options.seed,
            grammar=grammar,
        )

    def _ended(self, facts: RequestFacts) -> None:
        self._facts.append(facts)
        self.lease.tokens = (self.lease.tokens or 0) + facts.output_tokens
        self.lease.outcome = "invalid"  # until it is known to be a plan

    def _done(self, plan: Plan) -> Plan:
        self.lease.outcome = "ok"
        return plan.model_copy(update={"meta": self._meta()})

    def _meta(self) -> PlanMeta:
        deployment = self.lease.deployment
        revision = deployment.revision
        cost = cost_of(self._facts, revision)
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


def outcome_of_cut(prompt_tokens: int, max_model_len: int, *, bounded: bool = False) -> LeaseOutcome:
    """What a plan that was cut off says of its revision: that it rambles, or nothing.

    Nothing when the client left it no room: with a prompt of more than half the model's length, or with a
    bound of the client on the tokens (``bounded``). Else any client could have a new revision rolled back.
    """
    return "aborted" if bounded or 2 * prompt_tokens > max_model_len else "invalid"


def too_late(model: str, seconds: float) -> PlanTimeout:
    """What a client is told whose plan was not whole in time."""
    return PlanTimeout(
        f"{model!r} had no plan within {seconds:g} s",
        hint="try again when less is going on, ask for fewer steps, or raise plans.seconds",
    )


def token_budget(request: PlannerInput, max_model_len: int, max_text: int = MAX_TEXT) -> int:
    """Most tokens a plan may take: one for each byte that the grammar allows, within the model's length.

    No token is less, so a plan is never cut that the model had room for, in whatever script it is written; a
    model that rambles still ends. JSON arguments may hold many texts, so only the model's length bounds them.
    """
    if any(tool.parameters is not None for tool in request.tools):
        return max_model_len
    return min(request.max_steps * (2 * _CHAR_BYTES * max_text + _STEP_FRAME), max_model_len)


def _judged(text: str, request: PlannerInput) -> tuple[Plan | None, tuple[Problem, ...]]:
    """The text as a valid plan for the request, or None and what is wrong with it."""
    try:
        plan = parse(text)
    except PlanSyntaxError as error:
        return None, (Problem(kind="syntax", step=None, message=str(error)),)
    problems = plan.problems(request.tools, request.evidence, max_steps=request.max_steps)
    return (None, problems) if problems else (plan, ())


def _feedback(request: PlannerInput, found: tuple[Problem, ...]) -> tuple[str, ...]:
    """The request's own feedback and what was wrong this time, within the contract's bounds."""
    said = tuple(str(problem)[:MAX_TOOL_CHARS] for problem in found[:_SAID])
    return (*request.feedback[: MAX_FEEDBACK - len(said)], *said)


def _broken(why: str) -> EngineError:
    return EngineError(f"the engine's answer breaks the grammar that was set: {why}")
