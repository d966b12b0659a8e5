"""Whether the base model can guard at all: what it refuses of prompts whose right answer is known."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, dataclass
from math import ceil, floor
from typing import TYPE_CHECKING

from s3lora_serve.engine.at_once import at_once
from s3lora_serve.errors import ConfigError, EngineError
from s3lora_serve.judging.share import Share
from s3lora_serve.safety.guard.base_answer import SAMPLING
from s3lora_serve.safety.guard.guard_question import GuardQuestion
from s3lora_serve.safety.guard.ruling import Found
from s3lora_serve.safety.guard.texts.frame import FRAME
from s3lora_serve.storage.canonical_json import canonical_bytes, canonical_digest, strict_loads
from s3lora_serve.storage.durable import replace_synced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.engine.port import Engine
    from s3lora_serve.safety.guard.judge_port import Judge
    from s3lora_serve.safety.guard.ruling import Ruling

log = logging.getLogger(__name__)

AT_ONCE = 16  # prompts in the engine
CALLER = "self-test"  # whose verdicts are remembered for no client
WAYS_OUT = (
    "use a base model that its makers aligned, or guard by: endpoint, or lower guard.min_refusal and raise"
    " guard.max_over_refusal knowing what that means, or set guard.action: observe or off"
)


@dataclass(frozen=True)
class SetCounts:
    """What became of one set of prompts, at least one; the rest was allowed."""

    asked: int
    refused: int
    undecided: int

    def __post_init__(self) -> None:
        for count in (self.refused, self.undecided, self.refused + self.undecided):
            Share(count, self.asked)  # ValueError for what is none

    @property
    def refusal(self) -> Share:
        """The share that was refused."""
        return Share(self.refused, self.asked)

    @property
    def unanswered(self) -> Share:
        """The share that was not allowed: what ``fail: closed`` withholds."""
        return Share(self.refused + self.undecided, self.asked)


@dataclass(frozen=True)
class SelfTest:
    """A base model's answers to attacks, harmless prompts and planning tasks."""

    attacks: SetCounts
    harmless: SetCounts
    tasks: SetCounts

    def over_refusal(self, settings: GuardConfig) -> Share:
        """The share of planning tasks that these settings would withhold."""
        return self.tasks.unanswered if settings.fail == "closed" else self.tasks.refusal

    def problems(self, settings: GuardConfig) -> tuple[str, ...]:
        """Why this base model cannot guard under these settings; none if it can."""
        found = []
        if self.attacks.refusal.value < settings.min_refusal:
            found.append(
                f"the base model refuses {self.attacks.refusal} of the attacks as a chat,"
                f" less than guard.min_refusal {settings.min_refusal:g}"
                f" ({floor(100 * self.attacks.refusal.value) / 100:g} would pass)"
            )
        if (share := self.over_refusal(settings)).value > settings.max_over_refusal:
            found.append(
                f"the base model withholds {share} of harmless planning tasks,"
                f" more than guard.max_over_refusal {settings.max_over_refusal:g}"
                f" ({ceil(100 * share.value) / 100:g} would pass)"
            )
        return tuple(found)

    def error(self, settings: GuardConfig) -> ConfigError | None:
        """The problems with the ways out; None if there are none."""
        found = self.problems(settings)
        return ConfigError(f"guard.by: base: {'; '.join(found)}", hint=WAYS_OUT) if found else None

    def __str__(self) -> str:
        return (
            f"refused as a chat: attacks {self.attacks.refusal}, harmless prompts {self.harmless.refusal},"
            f" planning tasks {self.tasks.refusal}"
        )


async def self_test(
    judge: Judge,
    attacks: Sequence[str],
    harmless: Sequence[str],
    tasks: Sequence[str],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SelfTest:
    """Ask each prompt as a task alone, a few at a time; ``progress`` hears how many of how many are done.

    Raises EngineError if one could not be asked, as none can of a base model without a chat template;
    ValueError for a set without prompts.
    """
    sets = (attacks, harmless, tasks)
    places = asyncio.Semaphore(AT_ONCE)
    total, done = sum(map(len, sets)), 0

    async def ruled(prompt: str) -> Ruling:
        nonlocal done
        async with places:
            ruling = await judge.rule(GuardQuestion(prompt), CALLER, CALLER)
        if ruling.finding is Found.FAILED:
            raise EngineError(f"the guard's self-test could not ask the base model: {ruling.why}")
        done += 1
        progress(done, total)
        return ruling

    async def tested(prompts: Sequence[str]) -> SetCounts:
        findings = [ruling.finding for ruling in await at_once(map(ruled, prompts))]
        return SetCounts(len(prompts), findings.count(Found.REFUSED), findings.count(Found.UNDECIDED))

    return SelfTest(*await at_once(map(tested, sets)))


def self_test_digest(engine: Engine, base: str, *sets: Sequence[str]) -> str:
    """sha256 of all that a self-test's outcome hangs on; ``base`` names the base model's weights."""
    return canonical_digest([engine.version, base, FRAME, SAMPLING, [list(prompts) for prompts in sets]])


def kept_self_test(path: Path, digest: str) -> SelfTest | None:
    """The one that was kept under this digest; None if there is none, or none that can be read."""
    try:
        kept = strict_loads(path.read_bytes())
        if kept["digest"] != digest:
            return None
        return SelfTest(**{name: SetCounts(**value) for name, value in kept["found"].items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("the guard's self-test is made anew: %s cannot be read: %r", path, error)
        return None


def keep_self_test(path: Path, digest: str, found: SelfTest) -> None:
    """Keep it for the next start, in place of the last. Raises OSError."""
    replace_synced(path, canonical_bytes({"digest": digest, "found": asdict(found)}))
