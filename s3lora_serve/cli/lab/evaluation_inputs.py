"""Adapters and settings of a run: checked as the server does, and scored for the report."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3lora_serve.cli.adapters.adapter_options import limits_by_option
from s3lora_serve.errors import ConfigError
from s3lora_serve.terminal.console import Stages, say
from s3lora_serve.terminal.pictures import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from s3lora_serve.adapters.peft.peft_format import PeftAdapter
    from s3lora_serve.config import Config, EngineConfig, LimitsConfig
    from s3lora_serve.launch.resolve import BaseModel
    from s3lora_serve.spectral.prune_policy import PrunePolicy
    from s3lora_serve.spectral.report import SpectralReport

# What raises a limit where --base stands in place of a configuration.
_WITHOUT_CONFIG = {
    "raise limits.": "give in place of --base a --config that raises limits.",
}
_GROUPED = re.compile(r"(?P<group>[A-Za-z0-9][\w.-]*)=(?P<source>.+)", re.ASCII)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Setting:
    """What the adapters run on."""

    base_model: str
    revision: str | None
    engine: EngineConfig
    limits: LimitsConfig
    configured: bool  # by a planners.yaml


@dataclass(frozen=True)
class Given:
    """An adapter as the command line names it."""

    name: str  # in the results
    source: str = field(repr=False)
    sha256: str | None = None
    group: str | None = None
    policy: PrunePolicy | None = None  # of the planner whose adapter it is


@dataclass(frozen=True)
class Loaded:
    """An adapter that was let in."""

    name: str
    source: str  # resolved, without secrets
    sha256: str
    group: str | None
    adapter: PeftAdapter
    report: SpectralReport  # SSI


def read_config(path: Path) -> Config:
    """A planners.yaml, with every check that the server makes of it. Raises ConfigError."""
    from s3lora_serve.config import load_config
    from s3lora_serve.launch.source_rules import file_problems

    return load_config(path, file_problems)


def to_setting(base: str | None, config: Config | None) -> Setting:
    """What --base or --config says. Raises ConfigError unless it is one of them."""
    from s3lora_serve.config import EngineConfig, LimitsConfig

    if config is None and base is not None:
        return Setting(base, None, EngineConfig(max_loras=1), LimitsConfig(), configured=False)
    if config is None or base is not None:
        raise ConfigError(
            "give --base or --config, one of them", hint="name the base model that the adapter must fit"
        )
    return Setting(
        config.base_model, config.base_model_revision, config.engine, config.limits, configured=True
    )


def to_given(sources: Sequence[str], planners: Sequence[str], config: Config | None) -> list[Given]:
    """Adapters by source, ``GROUP=SOURCE`` or planner's name. Raises ConfigError, and SourceError
    for a source that is refused by its text.

    Each is named after the last part of its source; where two would be named alike, they get a number.
    """
    from s3lora_serve.adapters.fetch.address import Source
    from s3lora_serve.launch.resolve import to_policy

    found: list[Given] = []
    for name in planners:
        if config is None:
            raise ConfigError("--planner names a planner of a --config", hint="give the planners.yaml")
        if (planner := config.planners.get(name)) is None:
            raise ConfigError(f"no planner {name!r}", hint=f"choose {', '.join(config.planners)}")
        policy = to_policy(config.policy_of(name))
        found.append(Given(name, planner.source, planner.sha256, policy=policy))
    for source in sources:
        match = _GROUPED.fullmatch(source)
        group, place = (match["group"], match["source"]) if match else (None, source)
        Source.parse(place)
        name = _NOT_IN_NAMES.sub("-", place.partition("?")[0].rstrip("/").rpartition("/")[2]).strip("-.")
        found.append(Given(_unused(name or "adapter", found), place, group=group))
    if not found:
        raise ConfigError("no adapter is named", hint="give its folder, or --config and --planner")
    return found


def load(given: Given, base: BaseModel, setting: Setting, work: Path) -> Loaded:
    """Fetch, verify and read one adapter as admission does, and score it. Raises AdapterError."""
    from s3lora_serve.adapters.admission import open_adapter
    from s3lora_serve.adapters.verify import RANKS
    from s3lora_serve.launch.resolve import to_limits, to_source
    from s3lora_serve.spectral.scorers import score

    limits = to_limits(setting.limits, setting.engine.max_lora_rank or max(RANKS))
    words = {} if setting.configured else _WITHOUT_CONFIG
    with Stages("adapter", keep=True) as stage, limits_by_option(words):
        fetched, adapter = open_adapter(
            to_source(given.source),
            work / "adapters" / given.name,
            base=base.spec,
            limits=limits,
            expected_sha256=given.sha256,
            progress=stage,
        )
        stage("score")
        report = score(adapter.modules)
        stage.note = f"{given.name}, {len(adapter.modules)} modules"
    for warning in (*fetched.warnings, *adapter.warnings):
        say(f"note: {given.name}: {warning}", "yellow")
    return Loaded(given.name, fetched.uri, fetched.sha256, given.group, adapter, report)


def max_lora_rank(loaded: Sequence[Loaded]) -> int:
    """The smallest rank that vLLM can be told of and that all modules fit."""
    return fitting_rank(*(one.adapter for one in loaded))


def fitting_rank(*adapters: PeftAdapter) -> int:
    """The same of adapters by themselves."""
    from s3lora_serve.adapters.verify import RANKS, allowed_rank

    needed = max(module.rank for adapter in adapters for module in adapter.modules.values())
    return allowed_rank(needed) or max(RANKS)


def open_folder(folder: Path, marker: str) -> None:
    """Make the folder, or check that it is a run's. Raises ConfigError."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = {entry.name for entry in folder.iterdir()}
    if names and marker not in names:
        raise ConfigError(
            f"{folder} is not empty and not the folder of a run: it has no {marker}", hint="name a new folder"
        )


def _unused(name: str, taken: Sequence[Given]) -> str:
    names = {given.name for given in taken}
    numbered = (f"{name}-{n}" for n in range(2, len(names) + 2))
    return name if name not in names else next(other for other in numbered if other not in names)
