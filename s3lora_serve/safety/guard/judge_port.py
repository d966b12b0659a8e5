"""What the guard needs of whoever judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from s3lora_serve.safety.guard.allowance import Allowance
    from s3lora_serve.safety.guard.guard_question import GuardQuestion
    from s3lora_serve.safety.guard.ruling import JudgeName, Ruling


class Judge(Protocol):
    """Judges requests: the base model (``base_judge.py``) or an endpoint (``endpoint/endpoint_judge.py``)."""

    @property
    def name(self) -> JudgeName:
        """Which one it is."""
        ...

    async def rule(
        self,
        question: GuardQuestion,
        caller: str,
        request_id: str,
        priority: int = 0,
        allowance: Allowance | None = None,
    ) -> Ruling:
        """Judge one request; never raises anything but cancellation, which ends what it asked of others.

        ``caller``: whose request it is; verdicts are remembered for that caller alone. ``priority``: the
        request's in the engine, since its answer waits for this one. ``allowance``: what the request's
        prompts may cause together; None for one that has no others. It sets no deadline for the whole: the
        guard cancels it.
        """
        ...
