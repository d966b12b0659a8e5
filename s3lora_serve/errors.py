"""Every error this package raises on purpose, as one tree.

* ``S3LoRAError`` (``code``, ``hint``)
    * ``ConfigError``, ``BaseModelUnavailable``: nothing was started
    * ``AdapterError``: an adapter was refused; nothing was published
        * ``SourceError`` (``SourceNotAllowed``), ``FormatError``, ``UnsafeFileError``, ``UnsupportedError``,
          ``LimitError``, ``BaseModelMismatch``, ``PolicyRejection``
    * ``StoreError``: a revision is missing or damaged; ``EngineError``: the engine refused or failed
        * of a load: ``SlotLoadError``, ``NoEffectError``, ``TrialFailed``, ``ExamRefused``, ``ExamUndecided``
        * of a request: ``EngineRefused`` (``ContextTooLong``); of any: ``EngineDead``
    * ``PlannerError``: a request named a planner that cannot answer
        * ``UnknownPlanner``, ``PlannerNotReady`` (``PlannerWithheld``, ``WithheldByExam``)
        * ``RevisionMismatch``, ``PlanIncomplete``, ``InvalidPlan``, ``PlanTimeout``
        * ``RefusedByGuard``, ``GuardUndecided``
        * to be sent again: ``Overloaded``, ``SlotsBusy``, ``LeaseCut``, ``ShuttingDown``
    * ``ControlError``: an operator's order was refused; nothing changed
        * ``Conflict`` (``OperationCancelled``), ``UnknownOperation``
    * ``StateError``: the database cannot be read or written; ``TransitionError``: a defect of ours

A message names the offender, its value and the limit; ``hint`` names the next step, in words of no face.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class S3LoRAError(Exception):
    """Base of the tree. ``code`` is stable and machine-readable; ``hint`` is what to do next, or empty.

    ``command`` is what does that at a shell, or empty: terminals show it, HTTP never does.
    """

    code: str = "s3lora_error"

    def __init__(self, message: str, *, hint: str = "", command: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.command = command

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class ConfigError(S3LoRAError):
    """planners.yaml or an option is wrong; nothing was started."""

    code = "config_error"


class BaseModelUnavailable(S3LoRAError):
    """The base model could not be prepared; nothing was started."""

    code = "base_model_unavailable"


class AdapterError(S3LoRAError):
    """An adapter was refused; nothing was published."""

    code = "adapter_refused"


class SourceError(AdapterError):
    """The adapter could not be fetched."""

    code = "source_unavailable"


class SourceNotAllowed(SourceError):
    """The source is none of those that this server may read; the message repeats what was sent, no more."""

    code = "source_not_allowed"


class FormatError(AdapterError):
    """The files are not a readable PEFT LoRA folder."""

    code = "bad_format"


class UnsafeFileError(AdapterError):
    """A pickle, a symlink, or a path that leaves the adapter's folder."""

    code = "unsafe_file"


class UnsupportedError(AdapterError):
    """A PEFT feature that the engine would ignore or reject."""

    code = "unsupported_feature"


class LimitError(AdapterError):
    """A rank or size over the configured limit."""

    code = "over_limit"


class BaseModelMismatch(AdapterError):
    """Shapes or module names that do not fit the base model."""

    code = "base_model_mismatch"


class PolicyRejection(AdapterError):
    """The policy refuses it by an action ``reject``, or needs measurements that it does not have."""

    code = "policy_rejected"


class StoreError(S3LoRAError):
    """A published revision is missing or does not match its digest."""

    code = "store_error"


class EngineError(S3LoRAError):
    """The inference engine refused or failed."""

    code = "engine_error"


class SlotLoadError(EngineError):
    """An adapter could not be loaded into a slot."""

    code = "slot_load_failed"


class NoEffectError(EngineError):
    """The adapter loaded, but the model answers as if it had not."""

    code = "no_effect"


class TrialFailed(EngineError):
    """The adapter loaded, but did not get through its trial generation."""

    code = "trial_failed"


class ExamFailed(EngineError):
    """The adapter loaded, and its exam keeps it from serving: what served before goes on.

    ``facts`` are what the exam found, as they are shown: counts, never a text.
    """

    code = "exam_failed"

    def __init__(
        self, message: str, *, facts: Mapping[str, object] | None = None, hint: str = "", command: str = ""
    ) -> None:
        super().__init__(message, hint=hint, command=command)
        self.facts = dict(facts or {})


class ExamRefused(ExamFailed):
    """The exam proved that the adapter complies with more attacks, or plans worse, than it may."""

    code = "exam_refused"


class ExamUndecided(ExamFailed):
    """The exam came to no verdict, and what has none is held."""

    code = "exam_undecided"


class EngineRefused(EngineError):
    """The engine cannot process this request, such as one with too long a prompt."""

    code = "engine_refused"


class ContextTooLong(EngineRefused):
    """The prompt, or prompt and answer, are longer than the model's context."""

    code = "context_length_exceeded"


class EngineDead(EngineError):
    """The engine does not run at present; the server restarts it."""

    code = "engine_dead"


class PlannerError(S3LoRAError):
    """A request named a planner that cannot answer."""

    code = "planner_error"


class UnknownPlanner(PlannerError):
    """No planner of that name."""

    code = "unknown_planner"


class PlannerNotReady(PlannerError):
    """The planner exists, but does not serve at present."""

    code = "planner_not_ready"


class PlannerWithheld(PlannerNotReady):
    """What the planner shall serve is not what the journal proves: an operator has to say."""

    code = "state_mismatch"


class WithheldByExam(PlannerNotReady):
    """What the planner shall serve did not pass its exam at the start: an operator has to say."""

    code = "withheld_by_exam"


class PlanIncomplete(PlannerError):
    """The planner answered, but not with a complete plan."""

    code = "plan_incomplete"


class InvalidPlan(PlannerError):
    """The planner answered without a constraint, and not with a valid plan; ``problems`` say why."""

    code = "invalid_plan"

    def __init__(self, message: str, *, problems: Sequence[object] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class PlanTimeout(PlannerError):
    """The plan, or the answer to a chat or completion, was not whole within the configured time."""

    code = "plan_timeout"


class RefusedByGuard(PlannerError):
    """The guard refused the request: ``part`` is what the refusal is about, and nothing says its text."""

    code = "refused_by_guard"

    def __init__(self, message: str, *, part: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.part = part


class GuardUndecided(PlannerError):
    """The guard came to no verdict; ``again``: whether asking again may help, as after a failure."""

    code = "guard_undecided"

    def __init__(self, message: str, *, again: bool, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.again = again


class RevisionMismatch(PlannerError):
    """The request asked for one revision, and another would answer: ``revision``, at ``generation``."""

    code = "revision_mismatch"

    def __init__(self, message: str, *, revision: str, generation: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.revision = revision
        self.generation = generation


class Overloaded(PlannerError):
    """The limit of concurrent requests is reached; ``retry_after`` is in seconds."""

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class SlotsBusy(PlannerError):
    """The planner is not loaded and no slot came free in time; ``retry_after`` is in seconds."""

    code = "slots_busy"

    def __init__(self, message: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class LeaseCut(PlannerError):
    """The request outlasted the drain deadline of the revision that it ran on."""

    code = "lease_cut"


class ShuttingDown(PlannerError):
    """The request outlasted the time that the server had to stop."""

    code = "shutting_down"

    @classmethod
    def told(cls) -> ShuttingDown:
        """What every client is told whose request is cut."""
        return cls("the server is stopping, and this request was not done in time", hint="send it again")


class ControlError(S3LoRAError):
    """An operator's order was refused; nothing changed."""

    code = "control_error"


class Conflict(ControlError):
    """An order's assumption does not hold: another revision serves, or another order is in progress.

    ``operation`` is the id of the operation that is in its way and can be cancelled, or None.
    """

    code = "conflict"

    def __init__(
        self, message: str, *, hint: str = "", command: str = "", operation: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, command=command)
        self.operation = operation


class OperationCancelled(Conflict):
    """An operation was cancelled, or pre-empted by another one; nothing that serves changed."""


class UnknownOperation(ControlError):
    """No operation of that id."""

    code = "unknown_operation"


class StateError(S3LoRAError):
    """The database of desired state and journal cannot be read or written."""

    code = "state_error"


class TransitionError(S3LoRAError):
    """A deployment was asked to take a step that its state does not allow; a defect of ours."""

    code = "illegal_transition"
