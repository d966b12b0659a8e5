"""Sources in settings: what is wrong with those of a planners.yaml, and what orders may name beside them"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3lora_serve.adapters.fetch.address import DEMO, HUB, LOCAL, Source
from s3lora_serve.adapters.fetch.reach import Reach
from s3lora_serve.config.settings import ANY
from s3lora_serve.errors import SourceError
from s3lora_serve.launch.resolve import tool_problems
from s3lora_serve.spectral.validated import Validated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3lora_serve.config import Config
    from s3lora_serve.spectral.prune_policy import PrunePolicy

Loc = tuple[int | str, ...]


def file_problems(config: Config) -> Iterator[tuple[Loc, str]]:
    """What makes a planners.yaml unusable that its own types cannot know of, each with its path."""
    yield from tool_problems(config)
    for name, planner in config.planners.items():
        try:
            Source.parse(planner.source)
        except SourceError as error:
            yield ("planners", name, "source"), str(error)
    for number, entry in enumerate(config.sources.allow):
        if entry != ANY and (problem := _entry_problem(entry)):
            yield ("sources", "allow", number), problem


def to_reach(config: Config) -> Reach:
    """What orders may name; what the planners name comes with each order, as they change."""
    allow = config.sources.allow
    return Reach(tuple(Source.parse(entry).place for entry in allow if entry != ANY), anywhere=ANY in allow)


def policy_files(policies: Iterable[PrunePolicy]) -> Iterator[str]:
    """Files and folders of this machine that policies are read from; models by their id are none."""
    for policy in policies:
        if isinstance(policy.rule, Validated):
            yield policy.rule.sweep
        if policy.anomaly is not None:
            yield policy.anomaly.reference
        if policy.alignment is not None:
            for model in (policy.alignment.base, policy.alignment.aligned):
                if model is not None and model.startswith((".", "/", "~")):
                    yield model


def _entry_problem(entry: str) -> str:
    try:
        source = Source.parse(entry)
    except SourceError as error:
        return str(error)
    if source.place.scheme in (DEMO, HUB):
        return f"{entry} is always allowed; remove it"
    if source.archive or source.place.query:
        return f"{source}: name the folder, bucket or host that it lies in"
    if source.place.scheme == LOCAL and not entry.strip():
        return "is empty; name a folder, a bucket or a host"
    return ""
