"""What mending needs: of exams their settings and kept verdicts, of an order hands to admit and load with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.config import ExamConfig
    from s3lora_serve.control.journal.entry import NewEntry
    from s3lora_serve.control.operation import Wanted
    from s3lora_serve.safety.exam.exam_result import ExamResult
    from s3lora_serve.safety.exam.rung_exam import RungTrials


class RungExams(Protocol):
    """The exam's side. A planner's name says by which settings and questions."""

    @property
    def trials(self) -> RungTrials:
        """Where is said what is loaded as a rung; the checks of a load look there."""
        ...

    def settings(self, planner: str) -> ExamConfig:
        """The planner's exam, or the fleet's."""
        ...

    async def current(self, planner: str, revision: Revision) -> ExamResult | None:
        """The kept verdict that a load of this revision would go by and ask nothing; None if it would ask.

        Raises StateError, EngineDead.
        """
        ...


class Hands(Protocol):
    """What a ladder is walked with: an order's steps, or those of a start."""

    async def admit(self, planner: str, wanted: Wanted) -> Revision:
        """The revision of what is wanted, published. Raises AdapterError, StoreError, ConfigError."""
        ...

    async def load(self, planner: str, revision: Revision) -> None:
        """Bring a held revision into the engine, checked. Raises what ended the load, ExamRefused too."""
        ...

    def tell(self, stage: str) -> None:
        """Note how far it is."""
        ...

    async def note(self, entry: NewEntry) -> None:
        """Write the decision into the journal. Raises StateError."""
        ...
