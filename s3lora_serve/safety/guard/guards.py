"""Which planner's requests are judged, by whom, and what follows: the guard of a whole fleet."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from s3lora_serve.safety.guard.guarding import Guarding
from s3lora_serve.safety.guard.proof.base_proof import BaseProof

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from s3lora_serve.config import GuardConfig
    from s3lora_serve.engine.port import RequestFacts
    from s3lora_serve.safety.guard.guard_question import GuardQuestion
    from s3lora_serve.safety.guard.judge_port import Judge
    from s3lora_serve.safety.guard.ruling import JudgeName

MOST_JUDGING = (
    256  # requests whose answers have left; of further ones only that they were not judged is known
)
FLEET = ""  # under which the fleet's own guard stands, for planners that are added while it serves


class Guards:
    """Makes each request its ``Guarding``. ``told`` hears of every request that was judged, ``exempted`` of
    planner and caller of each that ``allow`` keeps from it, ``counted`` of what each answer cost that waited
    for a verdict, and whether it was free to leave.
    """

    def __init__(
        self,
        settings: Mapping[str, GuardConfig],
        judges: Mapping[str, Mapping[JudgeName, Judge]],
        told: Callable[[str, Guarding], None] = lambda planner, guarding: None,
        base: BaseProof | None = None,
        exempted: Callable[[str, str], None] = lambda planner, caller: None,
    ) -> None:
        """``settings`` and ``judges`` by planner; each judge that a planner's settings name is there.

        Under ``FLEET`` stand those of every planner that is not named. ``base``: what is known of the base
        model, which some of the judges ask.
        """
        self.base = base or BaseProof()
        self.counted: Callable[[RequestFacts, bool], None] = lambda facts, passed: None
        self._settings = settings
        self._judges = judges
        self._told = told
        self._exempted = exempted
        self._judging: set[asyncio.Task[None]] = set()  # about answers that have left, under observe

    @property
    def self_test(self) -> Mapping[str, Any] | None:
        """What the base model did when it was tested, for those who are told of guards."""
        return self.base.told

    async def close(self) -> None:
        """End the judging that goes on."""
        for task in self._judging:
            task.cancel()
        await asyncio.gather(*self._judging, return_exceptions=True)

    def settings(self, planner: str) -> GuardConfig | None:
        """The planner's; None for one without a guard."""
        settings = self._settings.get(planner, self._settings.get(FLEET))
        return settings if settings is not None and settings.asks else None

    def applies(self, planner: str, caller: str) -> bool:
        """Whether the caller's requests to the planner are judged."""
        settings = self.settings(planner)
        return settings is not None and caller not in settings.allow

    def judges(self, planner: str, caller: str) -> bool:
        """``applies``, asked once for each request: one that ``allow`` exempts is told of."""
        if self.applies(planner, caller):
            return True
        if self.settings(planner) is not None:
            self._exempted(planner, caller)
        return False

    def refuses(self, planner: str, caller: str) -> bool:
        """Whether an answer to the caller may be withheld: then no field may slip past the guard."""
        settings = self.settings(planner)
        return self.applies(planner, caller) and settings is not None and settings.action == "refuse"

    def stuck(self, planners: Iterable[str]) -> str:
        """Why no request to some of them can be answered, as their guard fails at each; empty if all can."""
        guards = [guard for guard in map(self.settings, planners) if guard is not None]
        closed = any("base" in g.by and g.action == "refuse" and g.fail == "closed" for g in guards)
        return self.base.harm if closed else ""

    def guarding(
        self,
        planner: str,
        question: GuardQuestion,
        caller: str,
        request_id: str,
        *,
        more: Sequence[GuardQuestion] = (),
        priority: int = 0,
    ) -> Guarding:
        """The guard of one request, to which it applies; ``more`` are its further prompts, and ``priority``
        is its own in the engine."""
        whose = planner if planner in self._settings else FLEET
        settings, judges = self._settings[whose], self._judges[whose]
        return Guarding(
            settings,
            [judges[name] for name in settings.by],
            question,
            caller=caller,
            request_id=request_id,
            told=lambda guarding: self._told(planner, guarding),
            more=more,
            priority=priority,
            counted=lambda facts, passed: self.counted(facts, passed),
            goes_on=self._goes_on,
        )

    def _goes_on(self, task: asyncio.Task[None]) -> bool:
        if len(self._judging) >= MOST_JUDGING:
            return False
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)
        return True
