"""A started service over the fake engine, for tests of the runtime and the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters_factory import write_adapter
from revision_factory import make_revision

from s3lora_serve.engine.fake import FakeEngine
from s3lora_serve.runtime.service import PlannerService

if TYPE_CHECKING:
    from pathlib import Path

    from s3lora_serve.runtime.planner import Planner

BASE = "fake-base"
KEY = "correct-horse-battery-staple"


@dataclass
class Fleet:
    """The engine, the service over it, and every planner state that the service passed through."""

    engine: FakeEngine
    service: PlannerService
    seen: list[Planner]

    @property
    def steps(self) -> dict[str, list[str]]:
        """Each planner's states, in order."""
        steps: dict[str, list[str]] = {}
        for planner in self.seen:
            steps.setdefault(planner.name, []).append(planner.state.value)
        return steps


def make_fleet(root: Path, *names: str, hollow: tuple[str, ...] = (), **engine: object) -> Fleet:
    """A fleet that is not started: ``names`` have an adapter each, ``hollow`` ones were fully pruned.

    The adapters lie in ``root / "my store"``, whose path must never be told to a client.
    """
    fake = FakeEngine(base_name=BASE, **engine)
    admitted = {}
    for number, name in enumerate((*names, *hollow)):
        folder = root / "my store" / name
        folder.mkdir(parents=True)
        write_adapter(folder, seed=number, layers=range(2))
        pruned = (0, 1, 2) if name in hollow else (2,)
        digest = f"{number:x}" * 64
        admitted[name] = make_revision(folder, digest=digest, source=str(folder), pruned=pruned)
    seen: list[Planner] = []
    service = PlannerService(
        fake,
        admitted,
        base_model=BASE,
        descriptions=dict.fromkeys(names, "a test planner"),
        watch=seen.append,
    )
    return Fleet(fake, service, seen)
