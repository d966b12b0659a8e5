"""What control needs of the adapters' side: a wanted adapter becomes a published revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3lora_serve.adapters.lineage import Revision
    from s3lora_serve.control.operation import Wanted


class Admission(Protocol):
    """The port. Its methods block; they are run in threads."""

    def permit(self, wanted: Wanted) -> None:
        """Refuse what an order may not name, before anything of it is read or written down.

        Raises SourceNotAllowed, SourceError.
        """
        ...

    def admit(self, planner: str, wanted: Wanted, progress: Callable[[str, float], None]) -> Revision:
        """Fetch, verify, score, prune and publish. Raises AdapterError, StoreError, ConfigError."""
        ...

    def restore(self, digest: str) -> Revision:
        """A published revision, every byte read again, that fits the base model; 8 digits or more will do.

        Raises StoreError, BaseModelMismatch.
        """
        ...
