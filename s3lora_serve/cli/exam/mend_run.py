"""`s3lora prune --mend`: the ladder of one adapter is climbed on an engine that is started for it."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from s3lora_serve.adapters.fetch.address import redacted
from s3lora_serve.cli.adapters.adapter_options import limits_by_option
from s3lora_serve.cli.fleet.waiting import INTERRUPTED
from s3lora_serve.cli.lab.evaluation_inputs import fitting_rank
from s3lora_serve.cli.lab.evaluation_run import start_vllm
from s3lora_serve.errors import PolicyRejection
from s3lora_serve.spectral.prune_policy import PrunePolicy, Top
from s3lora_serve.spectral.ranking import rank
from s3lora_serve.terminal.console import Stages, say

if TYPE_CHECKING:
    from s3lora_serve.adapters.admission import AdapterLimits
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.adapters.peft.peft_format import PeftAdapter
    from s3lora_serve.cli.exam.mend_climb import Climb
    from s3lora_serve.cli.exam.mended import Mended
    from s3lora_serve.config import ExamConfig
    from s3lora_serve.launch.resolve import BaseModel
    from s3lora_serve.safety.exam.ladder import Ladder

WITHOUT_LIMIT = 7 * 86_400.0  # seconds of an exam: nothing else waits for this engine


@dataclass(frozen=True)
class MendSpec:
    """What is to be mended, on which base model, by which ranking and exam."""

    source: str = field(repr=False)
    base: str
    policy: PrunePolicy
    limits: AdapterLimits
    exam: ExamConfig
    control: bool


def mend(given: MendSpec, base: BaseModel) -> tuple[Mended, PrunePolicy, str]:
    """What climbing came to, the policy that publishes what was chosen, and the weights' SHA-256.

    Raises PolicyRejection where the ranking carries nothing; AdapterError, ConfigError, EngineError.
    """
    from s3lora_serve.adapters.peft.peft_format import read_peft
    from s3lora_serve.cli.exam.mend_climb import Climb
    from s3lora_serve.safety.exam.exam_questions import exam_questions
    from s3lora_serve.safety.exam.examiner import Examiner
    from s3lora_serve.safety.exam.kept_answers import KeptAnswers
    from s3lora_serve.safety.exam.rung_exam import rung_halves

    halves = rung_halves(exam_questions(given.exam))
    with tempfile.TemporaryDirectory(prefix="s3lora-mend-") as work:
        first = _unpruned(given, base, Path(work))
        rungs = _rungs(given, first)
        asked = given.exam.model_copy(update={"seconds": WITHOUT_LIMIT, "share": 1.0})
        at_once, answers = _at_once(), KeptAnswers()
        one, other = (
            Examiner(asked, half, None, base.spec.digest, at_once, answers=answers) for half in halves
        )
        adapter = read_peft(first.path)
        scored = rank(first.lineage.report).judged
        climb = Climb(
            redacted(given.source), adapter, scored, rungs, asked, (one, other), Path(work) / "slots"
        )
        try:
            mended = asyncio.run(_climb(climb, base, adapter, control=given.control))
        except KeyboardInterrupt:
            say("interrupted: nothing was written", "yellow")
            raise typer.Exit(INTERRUPTED) from None
    chosen = mended.chosen.rung.top if mended.chosen else 0
    policy = replace(given.policy, rule=Top(chosen), action="prune")
    return mended, policy, first.lineage.source_sha256


def _unpruned(given: MendSpec, base: BaseModel, work: Path) -> Revision:
    """The adapter as it came, admitted and scored, and nothing left out."""
    from s3lora_serve.adapters.admission import admit
    from s3lora_serve.adapters.evidence.sweep_hint import Called
    from s3lora_serve.adapters.store import RevisionStore
    from s3lora_serve.launch.resolve import to_served, to_source

    policy = replace(given.policy, rule=Top(0), action="observe")
    with Stages("adapter", keep=True) as stage, limits_by_option():
        first = admit(
            to_source(given.source),
            base=base.spec,
            policy=to_served(policy, base),
            limits=given.limits,
            store=RevisionStore(work / "store"),
            progress=stage,
            called=Called(given.source, given.base),
        )
        stage.note = f"{len(first.lineage.report.rows)} modules, scored by {policy.scorer}"
    for warning in first.lineage.warnings:
        say(f"note: {warning}", "yellow")
    return first


def _rungs(given: MendSpec, first: Revision) -> Ladder:
    from s3lora_serve.safety.exam.ladder import ladder

    found = ladder(first.lineage.report, given.exam.taus)
    if found.abstained:
        raise PolicyRejection(
            f"{redacted(given.source)} is not mended: {found.abstained}",
            hint="its ranking says nothing of its modules; choose another --scorer, or review the adapter",
        )
    return found


async def _climb(climb: Climb, base: BaseModel, adapter: PeftAdapter, *, control: bool) -> Mended:
    """On an engine that is started for it and stopped again."""
    from s3lora_serve.cli.exam.mend_climb import SLOTS
    from s3lora_serve.config import EngineConfig
    from s3lora_serve.engine.vllm.vllm_settings import VllmSettings

    section = EngineConfig(max_loras=SLOTS).model_copy(update={"max_lora_rank": fitting_rank(adapter)})
    settings = VllmSettings(base.location or base.name, section, base.revision, base.name)
    with Stages("engine", keep=True) as stage:
        engine = await start_vllm(settings, stage)
        stage.note = engine.version
    try:
        with Stages("exams", keep=True) as stage:
            mended = await climb.run(engine, control=control, told=stage)
            stage.note = mended.headline
        return mended
    finally:
        await engine.close()


def _at_once() -> int:
    from s3lora_serve.evaluation.measuring.engine_subject import CONCURRENT

    return CONCURRENT
